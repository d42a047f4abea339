//! `disk-identify`: identities of its own for a disk that is a copy of another.
use super::{Label, load};
use crate::plan::{
    Code, Draft, Refusal, Request, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use spec::gpt;
use uuid::Uuid;

/// `disk-identify`.
pub struct DiskIdentify;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    id: Option<String>,
}

impl Verb for DiskIdentify {
    fn name(&self) -> &'static str {
        "disk-identify"
    }
    fn about(&self) -> &'static str {
        "Give a disk that is a copy of another identities of its own: on a GPT new GUIDs for it and all of its partitions, on an MBR a new signature."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const ALL: &[Opt] = &[Opt::new(
            "id",
            Type::Text,
            "the disk's GUID, or on an MBR its signature in hexadecimal; fresh by default. Those of partitions are fresh always",
        )];
        ALL
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(identify(draft, request))
    }
}

/// The GUID that an option names, or a fresh one.
pub(super) fn guid(draft: &mut Draft<'_>, id: Option<&str>) -> Result<Uuid, Refusal> {
    match id {
        None => Ok(draft.uuid()),
        Some(text) => {
            Uuid::try_parse(text).map_err(|_| Refusal::new(Code::BadOption, format!("id: {text:?} is no GUID")))
        }
    }
}

/// The signature of an MBR that an option names, or a fresh one.
pub(super) fn signature(draft: &mut Draft<'_>, id: Option<&str>) -> Result<u32, Refusal> {
    let Some(text) = id else {
        // Zero is no signature.
        return Ok((draft.uuid().as_u128() as u32).max(1));
    };
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let value = plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten();
    value.ok_or_else(|| {
        let why = format!("id: {text:?} is no signature of a disk");
        Refusal::new(Code::BadOption, why).but("up to eight hexadecimal digits")
    })
}

async fn identify(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let options: Options = request.options()?;
    let id = options.id.as_deref();
    match load(draft, &request.object).await? {
        Label::Gpt(mut gpt) => {
            let guid = guid(draft, id)?;
            // Each partition becomes another disk to whoever knows it by its GUID.
            for part in &gpt.disk.parts {
                draft.release(part)?;
            }
            gpt.mend(draft).await?;
            let entries: Vec<(u32, gpt::Entry)> = gpt.label.table().entries().collect();
            gpt.label.identify(guid);
            for (number, entry) in &entries {
                let guid = draft.uuid();
                gpt.label.set(*number, Some(&gpt::Entry { guid, ..entry.clone() }));
            }
            gpt.write(draft).await?;
            draft.say(format!(
                "Gives {} the GUID {guid}, and its {} new GUIDs.",
                gpt.disk.name,
                crate::part::count(entries.len())
            ));
            if !entries.is_empty() {
                draft.warn("What looks for its partitions by GUID, such as fstab or a boot loader on them, has to be told the new ones.");
            }
            Ok(())
        }
        Label::Dos(mut dos) => {
            let id = signature(draft, id)?;
            let steps = dos.label.identify(id);
            dos.write(draft, steps).await?;
            draft.say(format!("Gives {} the signature {id:#010x}.", dos.disk.name));
            Ok(())
        }
        Label::Older(older) => {
            let why = format!("has {}, which holds no identity of the disk", older.table.what());
            Err(older.disk.refuse(Code::Unsupported, &why))
        }
    }
}
