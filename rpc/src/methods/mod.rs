//! Every method, one file for each family. [`table`] is the one list.

mod app;
mod arrays;
mod ashlar;
mod ashlar_target;
mod backup;
mod bdev;
mod bdev_leaf;
mod bdev_module;
mod bdev_raid;
pub(crate) mod crypto;
mod framework;
pub(crate) mod iscsi;
pub(crate) mod iscsi_auth;
mod iscsi_node;
mod kept;
pub(crate) mod keyring;
mod log;
mod notify;
pub(crate) mod nvmf;
mod nvmf_namespace;
pub(crate) mod nvmf_subsystem;
pub(crate) mod plan;
pub(crate) mod thread;

use std::sync::Arc;

use crate::context::Context;
use crate::method::{Manner, Method, Phases, Table};

type Line = Method<Context>;
type Lines = Vec<Line>;

/// How a table is limited.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// Only these methods may be called (SPDK's `--rpcs-allowed`).
    pub allowed: Option<Vec<String>>,
    /// Take only the parameter forms of SPDK 26.05, none of the older ones.
    pub strict: bool,
}

/// The table of everything this process can do, told to the context so that `rpc_get_methods` can list it.
pub fn table(context: &Context, options: TableOptions) -> Arc<Table<Context>> {
    let families: [fn() -> Lines; 23] = [
        app::lines,
        framework::lines,
        thread::lines,
        log::lines,
        notify::lines,
        kept::lines,
        keyring::lines,
        bdev::lines,
        bdev_leaf::lines,
        bdev_module::lines,
        bdev_raid::lines,
        arrays::lines,
        crypto::lines,
        nvmf::lines,
        nvmf_subsystem::lines,
        nvmf_namespace::lines,
        iscsi::lines,
        iscsi_auth::lines,
        iscsi_node::lines,
        ashlar::lines,
        ashlar_target::lines,
        plan::lines,
        backup::lines,
    ];
    let mut table = Table::new(families.into_iter().flat_map(|lines| lines()).collect());
    if let Some(names) = options.allowed {
        table = table.allowing(names);
    }
    if options.strict {
        table = table.strict();
    }
    context.set_catalogue(table.catalogue());
    Arc::new(table)
}
