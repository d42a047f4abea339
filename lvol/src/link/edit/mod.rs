//! Drive links are made and changed: `link-create`, `link-add`, `link-expand`, `link-shrink`, `link-rename`, `link-delete`.
pub mod chain;
mod verbs;

pub use verbs::{LinkAdd, LinkCreate, LinkDelete, LinkExpand, LinkRename, LinkShrink};
