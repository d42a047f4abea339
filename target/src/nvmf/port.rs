//! A socket we listen on. Several subsystems may share one; the discovery service answers on every one.
use super::{connection, error::NvmfError, shared::Shared};
use reactor::{
    Call, Closer, Listener,
    channel::{self, Sender},
};
use std::{future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, task::Poll, time::Duration};

/// A listening socket and the task that accepts on it.
pub struct Port {
    /// PORTID.
    pub id: u16,
    /// Hosts come by TLS, or not at all.
    pub secure: bool,
    /// Subsystems that listen here.
    pub users: usize,
    stop: Sender<()>,
    closer: Closer,
    ended: Call<()>,
}

impl Port {
    /// Listens. Returns the address with the port that was bound.
    pub fn open(
        shared: &Arc<Shared>,
        id: u16,
        address: SocketAddr,
        secure: bool,
    ) -> Result<(Self, SocketAddr), NvmfError> {
        let bind = |why| NvmfError::Bind { address, why };
        let listener = Listener::bind(address).map_err(bind)?;
        let (bound, closer) = (listener.local_addr(), listener.closer());
        let (stop, stopped) = channel::bounded(1);
        let target = shared.clone();
        // Accepting is little work: ports take turns on the cores.
        let core = usize::from(id) % shared.reactors.count();
        let ended = shared
            .reactors
            .call(core, move || accept(target, listener, secure, stopped));
        Ok((
            Self {
                id,
                secure,
                users: 1,
                stop,
                closer,
                ended,
            },
            bound,
        ))
    }

    /// Stops listening, at once, and waits until nobody accepts any more.
    pub async fn close(self) {
        // Full means that it has been told already.
        let _ = self.stop.try_send(());
        self.closer.close();
        let _ = self.ended.checked().await;
    }
}

async fn accept(shared: Arc<Shared>, listener: Listener, secure: bool, stopped: channel::Receiver<()>) {
    let mut asked = pin!(reactor::stopping());
    loop {
        let mut next = pin!(listener.accept());
        let next = poll_fn(|cx| {
            if stopped.poll_recv(cx).is_ready() || asked.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            next.as_mut().poll(cx).map(Some)
        });
        match next.await {
            None => return,
            Some(Ok((stream, peer))) => {
                let most = shared.state().transport.as_ref().map_or(0, |t| t.max_connections);
                if shared.connections() >= most {
                    tracing::warn!(%peer, most, "refused a connection: that is the limit");
                    continue;
                }
                let core = shared.least_loaded();
                shared.expect(core);
                let target = shared.clone();
                drop(
                    shared
                        .reactors
                        .call(core, move || connection::serve(target, stream, peer, secure)),
                );
            }
            Some(Err(error)) => {
                // Out of descriptors or memory, or a host that went away before we looked: others get their turn later.
                tracing::warn!(%error, "cannot accept a connection");
                reactor::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
