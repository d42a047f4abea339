//! The iSCSI front end: portals, groups, nodes and who may log in.
use super::{Checker, How};
use std::collections::{BTreeMap, BTreeSet};

impl<'a> Checker<'a> {
    pub(super) fn iscsi(&mut self) {
        let iscsi = &self.config.targets.iscsi;
        let groups = self.auth_groups();
        self.auth(&iscsi.discovery_auth, "targets.iscsi.discovery_auth", &groups);
        if let Some(list) = iscsi.chap_algorithms.as_ref().filter(|list| list.is_empty()) {
            let message = "expected at least one of md5, sha1, sha256 and sha3-256";
            self.wrong(list, "targets.iscsi.chap_algorithms", message);
        }
        if let Some(most) = iscsi
            .max_sessions
            .as_ref()
            .filter(|most| !(1..=65535).contains(&***most))
        {
            let message = format!("{} sessions; expected 1 to 65535", **most);
            self.wrong(most, "targets.iscsi.max_sessions", message);
        }
        let mut tags = BTreeSet::from([1]);
        for (i, group) in iscsi.portal_groups.iter().enumerate() {
            let key = format!("targets.iscsi.portal_groups[{i}]");
            if *group.tag == 0 || !tags.insert(*group.tag) {
                let message = format!("portal group {} is taken; expected a number from 2", *group.tag);
                self.wrong(&group.tag, format!("{key}.tag"), message);
            }
            self.auth(&group.discovery_auth, &format!("{key}.discovery_auth"), &groups);
        }
        let mut names: BTreeMap<String, u64> = BTreeMap::new();
        for (i, node) in iscsi.nodes.iter().enumerate() {
            let key = |k: &str| format!("targets.iscsi.nodes[{i}].{k}");
            let prefix = ["iqn.", "eui.", "naa."].iter().any(|p| node.name.starts_with(p));
            if !prefix
                || node.name.len() > 223
                || node.name.chars().any(|c| c.is_whitespace() || c.is_ascii_uppercase())
            {
                let message = format!(
                    "{:?} is not an iSCSI name; expected one like iqn.2026-11.io.ashlar:disk",
                    *node.name
                );
                self.wrong(&node.name, key("name"), message);
            }
            if let Some(line) = names.insert(node.name.to_string(), node.name.line) {
                self.wrong(
                    &node.name,
                    key("name"),
                    format!("the target {:?} is in line {line} already", *node.name),
                );
            }
            let mut luns = BTreeSet::new();
            for (j, lun) in node.luns.iter().enumerate() {
                let key = format!("targets.iscsi.nodes[{i}].luns[{j}]");
                if *lun.lun > 255 || !luns.insert(*lun.lun) {
                    let message = format!(
                        "LUN {} is taken or too large; expected different numbers from 0 to 255",
                        *lun.lun
                    );
                    self.wrong(&lun.lun, format!("{key}.lun"), message);
                }
                if let Err(bad) = lun.options.check() {
                    self.wrong(&lun.lun, format!("{key}.{}", bad.what), bad.why);
                }
                self.refer(
                    &lun.volume,
                    &format!("{key}.volume"),
                    Some(How::Served),
                    format!("target {:?}", *node.name),
                );
            }
            for (j, access) in node.access.iter().flatten().enumerate() {
                if !tags.contains(&*access.portal_group) {
                    let message = format!("there is no portal group {}", *access.portal_group);
                    self.wrong(&access.portal_group, key(&format!("access[{j}].portal_group")), message);
                }
            }
            self.auth(&node.auth, &key("auth"), &groups);
            let reached = |tag: u32| {
                tags.contains(&tag)
                    && node
                        .access
                        .as_ref()
                        .is_none_or(|ways| ways.iter().any(|way| *way.portal_group == tag))
            };
            for (j, alua) in node.alua.iter().enumerate() {
                if !reached(*alua.portal_group) {
                    let message = format!(
                        "hosts do not come through portal group {}; expected one of `access`",
                        *alua.portal_group
                    );
                    self.wrong(&alua.portal_group, key(&format!("alua[{j}].portal_group")), message);
                }
            }
            for (j, redirect) in node.redirect.iter().enumerate() {
                if !reached(*redirect.portal_group) {
                    let message = format!(
                        "hosts do not come through portal group {}; expected one of `access`",
                        *redirect.portal_group
                    );
                    self.wrong(
                        &redirect.portal_group,
                        key(&format!("redirect[{j}].portal_group")),
                        message,
                    );
                }
            }
        }
    }

    /// The groups' tags; users come once in each.
    fn auth_groups(&mut self) -> BTreeSet<u32> {
        let mut tags = BTreeSet::new();
        for (i, group) in self.config.targets.iscsi.auth_groups.iter().enumerate() {
            let key = format!("targets.iscsi.auth_groups[{i}]");
            if *group.tag == 0 || !tags.insert(*group.tag) {
                let message = format!("auth group {} is taken; expected different numbers from 1", *group.tag);
                self.wrong(&group.tag, format!("{key}.tag"), message);
            }
            let mut users = BTreeSet::new();
            for (j, user) in group.users.iter().enumerate() {
                let key = format!("{key}.users[{j}].user");
                let names = [Some(&user.user), user.mutual.as_ref().map(|mutual| &mutual.user)];
                for name in names.into_iter().flatten() {
                    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
                        self.wrong(name, key.as_str(), "expected a name of 1 to 255 bytes");
                    }
                }
                if !users.insert(user.user.as_str()) {
                    let message = format!("user {:?} is in this group already", *user.user);
                    self.wrong(&user.user, key, message);
                }
            }
        }
        tags
    }

    fn auth(&mut self, auth: &Option<crate::schema::Auth>, key: &str, groups: &BTreeSet<u32>) {
        let Some(auth) = auth else { return };
        if !groups.contains(&*auth.group) {
            let message = format!("there is no auth group {}", *auth.group);
            self.wrong(&auth.group, format!("{key}.group"), message);
        }
        if auth.mutual && !auth.require {
            let message = "`mutual` needs `require: true`";
            self.wrong(&auth.group, format!("{key}.mutual"), message);
        }
    }
}
