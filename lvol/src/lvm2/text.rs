//! The texts that are in use now, each once: members of a group have the same one, and the next differs from it in a few lines. A text that somebody
//! has already is not read again, and of one that is like another only what differs is. The list keeps nothing alive.
use spec::lvm2::{
    mda::Location,
    text::Section,
    vg::{Error, VolumeGroup},
};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A text and what it says.
#[derive(Debug, PartialEq)]
pub struct Text {
    /// As a tree.
    pub tree: Section,
    /// As a group.
    pub vg: VolumeGroup,
    /// The checksum that its area's header has of it.
    pub checksum: u32,
}

static TEXTS: Mutex<Vec<Weak<Text>>> = Mutex::new(Vec::new());

/// The text that a header describes, if somebody has it.
pub fn known(at: Location) -> Option<Arc<Text>> {
    let all = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = all.iter().filter_map(Weak::upgrade);
    let length = |text: &Text| text.tree.source().map(|source| source.len() as u64);
    all.find(|text| text.checksum == at.checksum && length(text) == Some(at.size))
}

/// What these bytes say. The caller has checked their checksum.
pub fn read(bytes: &[u8], checksum: u32) -> Result<Arc<Text>, Error> {
    let texts: Vec<Arc<Text>> = {
        let mut all = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|text| text.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    };
    if let Some(same) = texts.iter().find(|text| text.tree.source() == Some(bytes)) {
        return Ok(same.clone());
    }
    let of_group = texts.iter().filter(|text| bytes.starts_with(text.vg.name.as_bytes()));
    let text = match of_group.max_by_key(|text| text.vg.seqno) {
        Some(like) => {
            let tree = Section::parse_like(bytes, &like.tree)?;
            let vg = VolumeGroup::like(&tree, Some((&like.tree, &like.vg)))?;
            Arc::new(Text { tree, vg, checksum })
        }
        None => {
            let tree = Section::parse(bytes)?;
            let vg = VolumeGroup::of(&tree)?;
            Arc::new(Text { tree, vg, checksum })
        }
    };
    let mut all = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(Arc::downgrade(&text));
    Ok(text)
}
