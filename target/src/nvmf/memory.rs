//! Payload memory: how many bytes of command buffers a core has out at once (DESIGN D7).
//!
//! Queue depth bounds what one host may have under way, but a thousand hosts with deep queues could still ask for more
//! than there is. A command therefore takes its bytes off the core's budget before it gets a buffer, and waits in line
//! when there is nothing left. It takes everything it needs in one step and holds nothing while it waits, so commands
//! cannot wait for each other in a circle.
use reactor::Buf;

/// A buffer of `len` bytes, when there is room.
pub async fn buffer(len: usize) -> Buf {
    loop {
        match Buf::try_alloc(len) {
            Some(buf) => return buf,
            // Somebody on this core will finish and give pages back.
            None => reactor::sleep(std::time::Duration::from_micros(100)).await,
        }
    }
}
