//! Authentication groups: users and their secrets. The rules; what a secret is, is in `auth`.
use super::*;
use crate::iscsi::auth::Credential;

impl State {
    /// Takes the groups of the file that the options name, instead of those of the one before.
    pub(in crate::iscsi) fn take_auth_file(&mut self, groups: Vec<AuthGroup>) -> Result<(), IscsiError> {
        self.auth_groups.retain(|_, group| !group.of_auth_file);
        groups.into_iter().try_for_each(|group| self.add_auth_group(group))
    }

    /// Makes a group, whole or not at all.
    pub(in crate::iscsi) fn add_auth_group(&mut self, group: AuthGroup) -> Result<(), IscsiError> {
        if group.tag == 0 {
            return Err(invalid(
                "tag",
                "0 stands for no authentication group; expected 1 or more",
            ));
        }
        if self.auth_groups.contains_key(&group.tag) {
            return Err(exists("auth group", group.tag));
        }
        room("auth groups", self.auth_groups.len())?;
        let tag = group.tag;
        let empty = AuthGroup {
            tag,
            of_auth_file: group.of_auth_file,
            ..AuthGroup::default()
        };
        self.auth_groups.insert(tag, empty);
        let added = group
            .credentials
            .into_iter()
            .try_for_each(|one| self.add_secret(tag, one));
        if added.is_err() {
            self.auth_groups.remove(&tag);
        }
        added
    }

    /// Forgets a group. Who must authenticate by it cannot come any more; sessions that are there stay.
    pub(in crate::iscsi) fn remove_auth_group(&mut self, tag: u32) -> Result<(), IscsiError> {
        let gone = self.auth_groups.remove(&tag);
        gone.map(drop).ok_or_else(|| not_found("auth group", tag))
    }

    pub(in crate::iscsi) fn add_secret(&mut self, tag: u32, credential: Credential) -> Result<(), IscsiError> {
        credential.check()?;
        let group = self.auth_group(tag)?;
        room("secrets", group.credentials.len())?;
        if group.find(&credential.user).is_some() {
            return Err(exists("user", credential.user));
        }
        let all = self.auth_groups.values().flat_map(|group| &group.credentials);
        if let Some(other) = all.chain([&credential]).find(|other| credential.crosses(other)) {
            let why = format!(
                "the secret of user {:?} would be used in both directions (RFC 7143 9.2.1)",
                other.user
            );
            return Err(invalid("msecret", why));
        }
        if credential.is_weak() {
            let user = &credential.user;
            tracing::warn!(
                group = tag,
                user,
                "a CHAP secret of less than 12 bytes can be guessed (RFC 7143 9.2.1)"
            );
        }
        self.auth_group(tag)?.credentials.push(credential);
        Ok(())
    }

    pub(in crate::iscsi) fn remove_secret(&mut self, tag: u32, user: &str) -> Result<(), IscsiError> {
        let group = self.auth_group(tag)?;
        let at = group.credentials.iter().position(|one| one.user == user);
        group.credentials.remove(at.ok_or_else(|| not_found("user", user))?);
        Ok(())
    }

    fn auth_group(&mut self, tag: u32) -> Result<&mut AuthGroup, IscsiError> {
        self.auth_groups
            .get_mut(&tag)
            .ok_or_else(|| not_found("auth group", tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::auth::Secret;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec().into()).unwrap()
    }

    fn user(name: &str, text: &str, ours: Option<&str>) -> Credential {
        Credential {
            user: name.into(),
            secret: secret(text),
            mutual: ours.map(|text| ("target".into(), secret(text))),
            files: (None, None),
        }
    }

    #[test]
    fn users_are_one_of_a_kind_and_secrets_have_one_direction() {
        let mut state = State::default();
        let group = |tag, credentials| AuthGroup {
            tag,
            credentials,
            of_auth_file: false,
        };
        let error = |result: Result<(), IscsiError>| result.unwrap_err().to_string();
        assert!(error(state.add_auth_group(group(0, vec![]))).starts_with("tag is not valid: 0 "));
        state
            .add_auth_group(group(1, vec![user("a", "first secret", Some("our own secret"))]))
            .unwrap();
        assert_eq!(
            error(state.add_auth_group(group(1, vec![]))),
            "auth group 1 exists already"
        );
        assert_eq!(
            error(state.add_secret(1, user("a", "another secret", None))),
            "user a exists already"
        );
        assert_eq!(
            error(state.add_secret(2, user("a", "another secret", None))),
            "auth group 2 does not exist"
        );
        for crossed in [
            user("b", "same secret", Some("same secret")),
            user("b", "our own secret", None),
            user("b", "another secret", Some("first secret")),
        ] {
            let said = error(state.add_secret(1, crossed));
            assert!(
                said.starts_with("msecret is not valid:") && !said.contains("secret\""),
                "{said}"
            );
        }
        state
            .add_secret(1, user("b", "another secret", Some("our own secret")))
            .unwrap();
        state.remove_secret(1, "a").unwrap();
        assert_eq!(error(state.remove_secret(1, "a")), "user a does not exist");
        state.remove_auth_group(1).unwrap();
        assert_eq!(error(state.remove_auth_group(1)), "auth group 1 does not exist");
        // A group is made whole or not at all.
        let twice = vec![user("a", "first secret", None), user("a", "other secret", None)];
        assert!(state.add_auth_group(group(1, twice)).is_err() && state.auth_groups.is_empty());
    }

    #[test]
    fn nothing_shows_a_secret() {
        let mut state = State::default();
        let credentials = vec![user("a", "hush hush hush", Some("not a word"))];
        let group = AuthGroup {
            tag: 1,
            credentials,
            of_auth_file: false,
        };
        state.add_auth_group(group).unwrap();
        let shown = format!("{state:?}");
        assert!(shown.contains("Secret(…)") && shown.contains("\"a\""), "{shown}");
        assert!(!shown.contains("hush") && !shown.contains("word"), "{shown}");
        assert!(!shown.contains("104, 117"), "nor its bytes");
    }
}
