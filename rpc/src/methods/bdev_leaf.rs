//! Leaf disks: memory, null, files through SPDK's two names for them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bdev::table::Direct;
use bdev::{NodeSpec, Table};
use serde::Deserialize;
use uuid::Uuid;

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::{Aio, Context, engine_error};
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::{Complaint, ignore};
use crate::shapes::bdev::URING;

const MALLOC: &str = "Malloc disk";
const NULL: &str = "Null disk";
const AIO: &str = "AIO disk";

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Decode;
    vec![
        Line::new("bdev_malloc_create", Runtime, Change, BAD, malloc_create),
        Line::new("bdev_malloc_delete", Runtime, Change, BAD, |c, p: Name| {
            delete(c, p, MALLOC)
        }),
        Line::new("bdev_null_create", Runtime, Change, BAD, null_create),
        Line::new("bdev_null_delete", Runtime, Change, BAD, |c, p: Name| {
            delete(c, p, NULL)
        }),
        Line::new("bdev_null_resize", Runtime, Change, BAD, null_resize),
        Line::new("bdev_aio_create", Runtime, Change, BAD, aio_create),
        Line::new("bdev_aio_rescan", Runtime, Change, BAD, |c, p: Name| rescan(c, p, AIO)),
        Line::new("bdev_aio_delete", Runtime, Change, BAD, |c, p: Name| delete(c, p, AIO)),
        Line::new("bdev_uring_create", Runtime, Change, BAD, uring_create).accepting(|params| {
            // Zone emulation, refused by those who read it; sent as false by some.
            if params.get("zoned").is_some_and(|zoned| zoned == false) {
                ignore(params, &["zoned"]);
            }
        }),
        Line::new("bdev_uring_rescan", Runtime, Change, BAD, |c, p: Name| {
            rescan(c, p, URING)
        }),
        Line::new("bdev_uring_delete", Runtime, Change, BAD, |c, p: Name| {
            delete(c, p, URING)
        }),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    pub name: String,
}

/// Removes a disk of this product.
pub(super) async fn delete(context: Arc<Context>, params: Name, product: &str) -> RpcResult<bool> {
    let info = context.disk_of(&params.name, product)?;
    context.delete(&info.name).await?;
    Ok(true)
}

async fn rescan(context: Arc<Context>, params: Name, product: &str) -> RpcResult<bool> {
    let info = context.disk_of(&params.name, product)?;
    context
        .engine
        .resize(&info.name, info.geometry.blocks)
        .await
        .map_err(engine_error)?;
    Ok(true)
}

fn inval(cause: impl Into<String>) -> RpcError {
    RpcError::errno(Errno::Inval).because(cause)
}

/// Metadata and protection information are for disks that have them; none here does.
fn no_metadata(md_size: Option<u32>, dif_type: Option<u32>) -> RpcResult<()> {
    match md_size.unwrap_or(0) == 0 && dif_type.unwrap_or(0) == 0 {
        true => Ok(()),
        false => Err(RpcError::errno(Errno::NotSup).because("md_size and dif_type: disks have no metadata here")),
    }
}

/// SPDK's checks, which are stricter than the graph's where it says nothing.
fn sizes(num_blocks: u64, block_size: u32, physical: Option<u32>) -> RpcResult<Option<u32>> {
    if num_blocks == 0 {
        return Err(inval("num_blocks must be greater than 0"));
    }
    if block_size == 0 || !block_size.is_multiple_of(512) {
        return Err(inval(format!("block_size {block_size} is not a multiple of 512")));
    }
    match physical.filter(|size| *size != 0) {
        Some(size) if size % 512 != 0 => Err(inval(format!("physical_block_size {size} is not a multiple of 512"))),
        // SPDK does not mind a physical block smaller than a logical one; there is no such thing.
        Some(size) => Ok(Some(size.max(block_size))),
        None => Ok(None),
    }
}

// ---- memory

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MallocCreate {
    name: Option<String>,
    num_blocks: u64,
    block_size: u32,
    physical_block_size: Option<u32>,
    uuid: Option<Uuid>,
    optimal_io_boundary: Option<u32>,
    md_size: Option<u32>,
    #[serde(rename = "md_interleave")]
    _md_interleave: Option<bool>,
    dif_type: Option<u32>,
    #[serde(rename = "dif_is_head_of_md")]
    _dif_is_head_of_md: Option<bool>,
    #[serde(rename = "dif_pi_format")]
    _dif_pi_format: Option<u32>,
    /// Memory comes from the arena, wherever that is.
    #[serde(rename = "numa_id")]
    _numa_id: Option<i32>,
}

async fn malloc_create(context: Arc<Context>, params: MallocCreate) -> RpcResult<String> {
    no_metadata(params.md_size, params.dif_type)?;
    let physical_block_size = sizes(params.num_blocks, params.block_size, params.physical_block_size)?;
    let name = match params.name {
        Some(name) => name,
        None => context.unnamed("Malloc"),
    };
    let table = Table::Memory {
        blocks: params.num_blocks,
        block_size: params.block_size,
        physical_block_size,
        optimal_io: params.optimal_io_boundary.unwrap_or(0),
    };
    let mut spec = NodeSpec::new(name, table);
    spec.uuid = given(params.uuid);
    Ok(context.create(spec).await?.name)
}

/// SPDK writes the null UUID where there is none.
pub(super) fn given(uuid: Option<Uuid>) -> Option<Uuid> {
    uuid.filter(|uuid| !uuid.is_nil())
}

// ---- null

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NullCreate {
    name: String,
    num_blocks: u64,
    block_size: u32,
    physical_block_size: Option<u32>,
    uuid: Option<Uuid>,
    md_size: Option<u32>,
    dif_type: Option<u32>,
    #[serde(rename = "dif_is_head_of_md")]
    _dif_is_head_of_md: Option<bool>,
    #[serde(rename = "dif_pi_format")]
    _dif_pi_format: Option<u32>,
    // Hints a null disk would pass on to hosts; it has no preference of its own.
    #[serde(rename = "preferred_write_granularity")]
    _preferred_write_granularity: Option<u32>,
    #[serde(rename = "preferred_write_alignment")]
    _preferred_write_alignment: Option<u32>,
    #[serde(rename = "optimal_write_size")]
    _optimal_write_size: Option<u32>,
    #[serde(rename = "preferred_unmap_granularity")]
    _preferred_unmap_granularity: Option<u32>,
    #[serde(rename = "preferred_unmap_alignment")]
    _preferred_unmap_alignment: Option<u32>,
}

async fn null_create(context: Arc<Context>, params: NullCreate) -> RpcResult<String> {
    no_metadata(params.md_size, params.dif_type)?;
    let physical_block_size = sizes(params.num_blocks, params.block_size, params.physical_block_size)?;
    let table = Table::Null {
        blocks: params.num_blocks,
        block_size: params.block_size,
        physical_block_size,
    };
    let mut spec = NodeSpec::new(params.name, table);
    spec.uuid = given(params.uuid);
    Ok(context.create(spec).await?.name)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NullResize {
    name: String,
    /// MiB.
    new_size: u64,
}

async fn null_resize(context: Arc<Context>, params: NullResize) -> RpcResult<bool> {
    let info = context.disk(&params.name)?;
    if info.product != NULL {
        return Err(inval(format!("{:?} is a {}", info.name, info.product)));
    }
    if params.new_size < info.geometry.bytes() >> 20 {
        return Err(inval("the new size must not be smaller than the current one"));
    }
    let bytes = params
        .new_size
        .checked_mul(1 << 20)
        .ok_or_else(|| inval("the new size is too large"))?;
    let blocks = bytes / u64::from(info.geometry.block_size);
    context.engine.resize(&info.name, blocks).await.map_err(engine_error)?;
    Ok(true)
}

// ---- files

/// What SPDK takes for the block size of a file: the file system's preference for a regular one. `None`: ask the device.
fn block_size(path: &Path, given: Option<u32>) -> RpcResult<Option<u32>> {
    let meta = std::fs::metadata(path).map_err(|error| RpcError::io(&error))?;
    let size = match given.filter(|size| *size != 0) {
        Some(size) => Some(size),
        None if meta.is_file() => Some(u32::try_from(meta.blksize()).unwrap_or(4096)),
        None => None,
    };
    match size {
        Some(size) if size < 512 || !size.is_power_of_two() => Err(inval(format!(
            "block size {size} is not a power of two of at least 512"
        ))),
        Some(size) if meta.is_file() && meta.len() % u64::from(size) != 0 => Err(inval(format!(
            "the file's {} bytes are not a multiple of the block size {size}",
            meta.len()
        ))),
        size => Ok(size),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AioCreate {
    name: String,
    filename: PathBuf,
    block_size: Option<u32>,
    #[serde(default)]
    readonly: bool,
    #[serde(default)]
    fallocate: bool,
    uuid: Option<Uuid>,
    #[serde(default)]
    nowait: bool,
}

async fn aio_create(context: Arc<Context>, params: AioCreate) -> RpcResult<String> {
    if params.nowait {
        return Err(RpcError::errno(Errno::NotSup).because("nowait: I/O never blocks a reactor here"));
    }
    let info = file(
        &context,
        params.name,
        params.filename,
        params.block_size,
        params.readonly,
        params.uuid,
        AIO,
    )
    .await?;
    context.facts().aio.insert(
        info.clone(),
        Aio {
            fallocate: params.fallocate,
        },
    );
    Ok(info)
}

async fn file(
    context: &Context,
    name: String,
    path: PathBuf,
    size: Option<u32>,
    read_only: bool,
    uuid: Option<Uuid>,
    product: &str,
) -> RpcResult<String> {
    let block_size = block_size(&path, size)?;
    let table = Table::File {
        path,
        block_size,
        read_only,
        create_size: None,
        direct: Direct::Auto,
    };
    let mut spec = NodeSpec::new(name, table);
    spec.uuid = given(uuid);
    spec.product = product.into();
    Ok(context.create(spec).await?.name)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UringCreate {
    name: String,
    filename: PathBuf,
    block_size: Option<u32>,
    uuid: Option<Uuid>,
}

async fn uring_create(context: Arc<Context>, params: UringCreate) -> RpcResult<String> {
    file(
        &context,
        params.name,
        params.filename,
        params.block_size,
        false,
        params.uuid,
        URING,
    )
    .await
}
