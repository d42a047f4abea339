//! I/O of the control plane: metadata.
use super::Graph;
use crate::{Disk, GraphError, Io, IoError};
use reactor::Buf;
use spec::BlockRange;

/// The most the control plane reads or writes at once.
const TRANSFER_MAX: usize = 64 << 20;

/// The bytes of a transfer of the control plane, if it is one.
fn transfer(disk: &Disk, range: BlockRange) -> Result<usize, IoError> {
    let bytes = u64::from(range.count) * u64::from(disk.block_size());
    let len = usize::try_from(bytes).ok().filter(|len| *len <= TRANSFER_MAX);
    match range.fits(disk.blocks()) {
        true => len.ok_or(IoError::OutOfRange),
        false => Err(IoError::OutOfRange),
    }
}

impl Graph {
    pub(super) fn whereabouts(&self, name: &str) -> Result<(u32, u64, usize), GraphError> {
        let state = self.state();
        let (slot, node) = state.get(name)?;
        Ok((
            slot,
            node.placement.id,
            node.placement.home.unwrap_or(slot as usize % self.0.reactors.count()),
        ))
    }

    /// Sends one I/O of the control plane, made on the core that carries it out.
    pub(super) async fn perform<T: Send + 'static>(
        &self,
        name: &str,
        make: impl FnOnce(&Disk) -> Result<(Io, Box<dyn FnOnce() -> T>), IoError> + Send + 'static,
    ) -> Result<T, GraphError> {
        let (slot, id, core) = self.whereabouts(name)?;
        let done = self.on_core(core, move |local| async move {
            let node = local.node(slot, id).ok_or(IoError::Gone)?;
            let (io, then) = make(&node.top)?;
            node.top.perform(io).await.map(|()| then())
        });
        done.await?.map_err(|error| GraphError::Io {
            name: name.into(),
            error,
        })
    }

    /// Reads for the control plane: metadata, at most 64 MiB at once. Goes through the node's gate, whoever has claimed it.
    pub async fn read(&self, name: &str, range: BlockRange) -> Result<Vec<u8>, GraphError> {
        let make = move |disk: &Disk| {
            let len = transfer(disk, range)?;
            let data = Buf::try_alloc(len).ok_or(IoError::NoSpace)?;
            let io = Io::read(range, data.clone());
            Ok((io, Box::new(move || data.to_vec()) as Box<dyn FnOnce() -> Vec<u8>>))
        };
        self.perform(name, make).await
    }

    /// Writes for the control plane, from block `start` on; as long as `bytes`, whole blocks, at most 64 MiB. With `durable` it is on the
    /// medium when this returns. The caller has claimed the node, or knows that nobody has.
    pub async fn write(&self, name: &str, start: u64, bytes: Vec<u8>, durable: bool) -> Result<(), GraphError> {
        let make = move |disk: &Disk| {
            let blocks = bytes.len() / disk.block_size() as usize;
            let count = u32::try_from(blocks).map_err(|_| IoError::OutOfRange)?;
            let range = BlockRange::new(start, count);
            if transfer(disk, range)? != bytes.len() {
                return Err(IoError::Misaligned);
            }
            let data = Buf::try_alloc(bytes.len()).ok_or(IoError::NoSpace)?;
            data.write_at(0, &bytes);
            let io = Io::write(range, data);
            Ok((
                if durable { io.fua() } else { io },
                Box::new(|| ()) as Box<dyn FnOnce()>,
            ))
        };
        self.perform(name, make).await
    }

    /// Makes durable what was written to a node.
    pub async fn flush(&self, name: &str) -> Result<(), GraphError> {
        self.perform(name, |_| Ok((Io::flush(), Box::new(|| ()) as Box<dyn FnOnce()>)))
            .await
    }
}
