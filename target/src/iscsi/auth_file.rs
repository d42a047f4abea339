//! SPDK's file of secrets, which `iscsi_set_options` names (`auth_file`): authentication groups by reference.
//!
//! ```text
//! [AuthGroup1]
//!   Comment "who may use what"
//!   Auth "user" "secret" "name of the target" "its secret"
//! ```
//!
//! The last two are for mutual CHAP. Words with blanks stand in quotes; `#` begins a comment.
use super::{
    auth::{AuthGroup, Credential, Secret},
    options::IscsiError,
};
use std::{io::Read, os::unix::fs::MetadataExt, path::Path};
use zeroize::Zeroizing;

/// A file this long holds some thousand users.
const LIMIT: u64 = 1 << 20;

/// Reads the file. One that is not there has no groups, as in SPDK; one that others may read is refused.
pub(super) fn read(path: &str) -> Result<Vec<AuthGroup>, IscsiError> {
    let wrong = |why: String| IscsiError::Invalid {
        what: "auth_file",
        why: format!("{path}: {why}"),
    };
    let file = match std::fs::File::open(Path::new(path)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(path, "there is no file of CHAP secrets");
            return Ok(Vec::new());
        }
        other => other.map_err(|error| wrong(error.to_string()))?,
    };
    let facts = file.metadata().map_err(|error| wrong(error.to_string()))?;
    if facts.mode() & 0o077 != 0 {
        let mode = facts.mode() & 0o777;
        return Err(wrong(format!("others may read it (mode {mode:o}); chmod 600")));
    }
    if facts.len() > LIMIT {
        return Err(wrong(format!("{} bytes are more than {LIMIT}", facts.len())));
    }
    let mut text = Zeroizing::new(String::with_capacity(facts.len() as usize + 1));
    file.take(LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| wrong(error.to_string()))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> Result<Vec<AuthGroup>, String> {
    let mut groups: Vec<AuthGroup> = Vec::new();
    // Sections of other kinds may stand in the file, too.
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let wrong = |why: &str| format!("line {}: {why}", number + 1);
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let group = section
                .strip_suffix(']')
                .and_then(|name| name.strip_prefix("AuthGroup"));
            inside = group.is_some();
            if let Some(tag) = group {
                let tag = tag.parse().ok().filter(|tag| *tag > 0);
                groups.push(AuthGroup {
                    tag: tag.ok_or_else(|| wrong("expected [AuthGroupN] with a number from 1"))?,
                    credentials: Vec::new(),
                    of_auth_file: true,
                });
            }
            continue;
        }
        let words = words(line).ok_or_else(|| wrong("a quote is not closed"))?;
        let (Some(&"Auth"), Some(group), true) = (words.first(), groups.last_mut(), inside) else {
            continue;
        };
        // What is wrong is said without saying what is there.
        let secret = |text: &str| {
            Secret::new(Zeroizing::new(text.as_bytes().to_vec())).map_err(|error| wrong(&error.to_string()))
        };
        let (user, theirs, mutual) = match words[1..] {
            [user, theirs] => (user, theirs, None),
            [user, theirs, name, ours] => (user, theirs, Some((name.to_owned(), secret(ours)?))),
            _ => return Err(wrong("expected Auth USER SECRET, or both for the other direction too")),
        };
        group.credentials.push(Credential {
            user: user.to_owned(),
            secret: secret(theirs)?,
            mutual,
            files: (None, None),
        });
    }
    Ok(groups)
}

/// The words of a line. `None`: a quote is not closed.
fn words(line: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const FILE: &str = "# ours\n[Global]\nAuth ignored\n[AuthGroup1]\n  Comment \"a # b\"\n  Auth \"user1\" \"a secret\" # x\n\
                        Auth user2 secret2 me \"and mine\"\n[AuthGroup23]\n";

    #[test]
    fn groups_come_out_of_spdks_format() {
        let groups = parse(FILE).unwrap();
        assert_eq!(
            groups.iter().map(|g| (g.tag, g.of_auth_file)).collect::<Vec<_>>(),
            [(1, true), (23, true)]
        );
        let [one, two] = &groups[0].credentials[..] else {
            panic!("two users");
        };
        assert_eq!(
            (one.user.as_str(), one.secret.bytes(), one.mutual.is_none()),
            ("user1", &b"a secret"[..], true)
        );
        let (name, ours) = two.mutual.as_ref().unwrap();
        assert_eq!(
            (two.secret.bytes(), name.as_str(), ours.bytes()),
            (&b"secret2"[..], "me", &b"and mine"[..])
        );
        for (bad, why) in [
            ("[AuthGroup0]", "line 1: expected [AuthGroupN]"),
            ("[AuthGroup1]\nAuth \"a", "line 2: a quote"),
            ("[AuthGroup1]\nAuth a hidden x", "line 2: expected Auth"),
            (
                "[AuthGroup1]\nAuth a \"\"",
                "line 2: secret is not valid: it has 0 bytes",
            ),
        ] {
            let said = parse(bad).unwrap_err();
            assert!(said.starts_with(why) && !said.contains("hidden"), "{said}");
        }
    }

    #[test]
    fn files_are_for_their_owner_only() {
        let dir = std::env::temp_dir().join(format!("ashlar-auth-file-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (groups, secret) = (dir.join("groups"), dir.join("secret"));
        std::fs::write(&groups, FILE).unwrap();
        std::fs::write(&secret, "sesame sesame\r\n").unwrap();
        let allow = |mode| {
            for file in [&groups, &secret] {
                std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        allow(0o640);
        let name = groups.to_str().unwrap();
        assert!(
            read(name)
                .unwrap_err()
                .to_string()
                .ends_with("others may read it (mode 640); chmod 600")
        );
        assert!(
            Secret::from_file(&secret)
                .unwrap_err()
                .to_string()
                .ends_with("chmod 600")
        );
        allow(0o600);
        assert_eq!(read(name).unwrap().len(), 2);
        assert_eq!(Secret::from_file(&secret).unwrap().bytes(), b"sesame sesame");
        assert!(read("/nowhere/at/all").unwrap().is_empty(), "as in SPDK");
        assert!(Secret::from_file(Path::new("/nowhere")).is_err() && Secret::from_file(&dir).is_err());
        std::fs::write(&secret, "\n").unwrap();
        assert!(
            Secret::from_file(&secret)
                .unwrap_err()
                .to_string()
                .contains("has 0 bytes")
        );
        std::fs::write(&secret, vec![b'x'; 300]).unwrap();
        assert!(Secret::from_file(&secret).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
