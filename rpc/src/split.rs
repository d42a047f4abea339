//! Splitting a disk into equal pieces, with SPDK's arithmetic.

use bdev::table::Segment;
use bdev::{NodeSpec, Table};
use lvol::{Create, Origin};

use crate::context::{Context, Split, engine_error};
use crate::error::{Errno, RpcError, RpcResult};

/// The product name of a piece.
pub(crate) const PRODUCT: &str = "Split Disk";

/// Where the pieces lie: `(start, blocks)`. Too many are fewer, as in SPDK.
fn pieces(blocks: u64, block_size: u32, count: u32, size_mb: u64) -> Result<Vec<(u64, u64)>, &'static str> {
    let size = match size_mb {
        0 => blocks / u64::from(count.max(1)),
        mb => {
            let bytes = mb.checked_mul(1 << 20).ok_or("the pieces are too large")?;
            if bytes % u64::from(block_size) != 0 {
                return Err("the size is not a multiple of the block size");
            }
            bytes / u64::from(block_size)
        }
    };
    if size == 0 || count == 0 {
        return Err("the pieces would be empty");
    }
    let most = blocks / size;
    if most == 0 {
        return Err("the disk is smaller than one piece");
    }
    Ok((0..u64::from(count).min(most)).map(|n| (n * size, size)).collect())
}

/// Builds the pieces; the names of those that were made. All or none.
pub(crate) async fn build(context: &Context, split: &Split) -> RpcResult<Vec<String>> {
    let base = context.disk(&split.base_bdev)?;
    context.check_unused(&base.name)?;
    let pieces = pieces(
        base.geometry.blocks,
        base.geometry.block_size,
        split.split_count,
        split.split_size_mb,
    )
    .map_err(|why| RpcError::errno(Errno::Inval).because(why))?;
    let mut made: Vec<String> = Vec::with_capacity(pieces.len());
    for (n, (start, blocks)) in pieces.into_iter().enumerate() {
        let table = Table::Linear {
            segments: vec![Segment {
                on: base.name.clone(),
                start,
                blocks,
            }],
        };
        let mut spec = NodeSpec::new(format!("{}p{n}", base.name), table);
        spec.product = PRODUCT.into();
        let name = spec.name.clone();
        let wish = Create {
            spec,
            origin: Origin::Rpc,
            examine: true,
        };
        if let Err(error) = context.engine.create(wish).await {
            for name in made.iter().rev() {
                // What was made a moment ago is used by nobody.
                let _ = context.engine.delete(name, true).await;
            }
            return Err(engine_error(error));
        }
        made.push(name);
    }
    context.facts().splits.insert(base.name, split.clone());
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_are_equal_and_what_does_not_fit_is_left_out() {
        assert_eq!(pieces(1000, 512, 3, 0), Ok(vec![(0, 333), (333, 333), (666, 333)]));
        assert_eq!(
            pieces(8192, 512, 9, 1),
            Ok(vec![(0, 2048), (2048, 2048), (4096, 2048), (6144, 2048)])
        );
        assert!(pieces(100, 512, 2, 1).is_err() && pieces(1, 512, 2, 0).is_err() && pieces(100, 512, 0, 0).is_err());
        assert!(pieces(100, 512, 1, u64::MAX).is_err());
    }
}
