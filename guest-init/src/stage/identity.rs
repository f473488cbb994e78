//! Who a process is: names looked up in the container's own passwd and group.
//!
//! Both files are the image's, so hostile: only regular files, only the first
//! [`FILE_MAX`] bytes, and lines that are no entries are skipped.

use crate::errors::invalid;
use guest_protocol::{Identity, Refusal, User};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

const FILE_MAX: u64 = 1 << 20;
/// From the files, and as many again from the pod ([`guest_protocol::GROUPS_MAX`]).
const GROUPS_MAX: usize = guest_protocol::GROUPS_MAX / 2 - 1;
/// The kernel's "no change" and therefore no id.
const ID_MAX: u32 = u32::MAX - 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

impl Person {
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
        }
    }
}

/// # Errors
/// A name that is not in the container's files, or a number out of range.
pub(crate) fn find(user: &User) -> Result<Person, Refusal> {
    resolve(user, &read("/etc/passwd"), &read("/etc/group"))
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    // Not blocking: it may be a FIFO.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path);
    let regular = file.ok().filter(|file| {
        let metadata = file.metadata();
        metadata.is_ok_and(|metadata| metadata.is_file())
    });
    if let Some(file) = regular {
        // What could be read counts.
        let _ = file.take(FILE_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some(Account {
            name,
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
            home: fields.nth(1).unwrap_or_default(),
        })
    })
}

/// Name, number, members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn resolve(user: &User, passwd: &str, group: &str) -> Result<Person, Refusal> {
    let (name, group_name) = match user.user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user.user.as_str(), None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok().filter(|uid| *uid <= ID_MAX);
    let account = accounts(passwd)
        .find(|account| account.name == name)
        .or_else(|| accounts(passwd).find(|account| Some(account.uid) == number));
    let uid = account.as_ref().map(|account| account.uid).or(number);
    let uid = uid.ok_or_else(|| {
        invalid(format!(
            "unable to find user {name}: no matching entries in passwd file"
        ))
    })?;
    let mut gid = account.as_ref().map_or(0, |account| account.gid);
    if let Some(wanted) = group_name {
        gid = groups(group)
            .find(|(name, _, _)| *name == wanted)
            .map(|(_, gid, _)| gid)
            .or_else(|| wanted.parse().ok())
            .ok_or_else(|| {
                invalid(format!(
                    "unable to find group {wanted}: no matching entries in group file"
                ))
            })?;
    }
    let gid = user.group.unwrap_or(gid);
    if uid > ID_MAX || gid > ID_MAX {
        return Err(invalid(format!("user {uid}:{gid}: out of range")));
    }
    let member = account.as_ref().map(|account| account.name);
    let member = member.filter(|_| !user.strict);
    let from_file = groups(group)
        .filter(|(_, _, members)| member.is_some_and(|name| members.split(',').any(|m| m == name)))
        .map(|(_, gid, _)| gid);
    let mut all: BTreeSet<u32> = from_file.take(GROUPS_MAX).collect();
    all.extend(user.additional_groups.iter().take(GROUPS_MAX));
    all.insert(gid);
    let home = account.map_or("", |account| account.home);
    Ok(Person {
        uid,
        gid,
        groups: all.into_iter().filter(|gid| *gid <= ID_MAX).collect(),
        home: if home.is_empty() { "/" } else { home }.to_owned(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\n:::\n\
                          www:x:33:33:www:/var/www:/bin/false\nbare:x:44:44\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\ntape:x:26:www,other\nbad:x:y:www\n";

    fn check(user: &str, group: Option<u32>, expected: Result<(u32, u32, &[u32], &str), &str>) {
        check_user(
            User {
                user: user.to_owned(),
                group,
                additional_groups: vec![1000],
                strict: false,
            },
            expected,
        );
    }

    fn check_user(user: User, expected: Result<(u32, u32, &[u32], &str), &str>) {
        let got = resolve(&user, PASSWD, GROUP);
        match expected {
            Ok((uid, gid, groups, home)) => {
                let person = got.unwrap();
                assert_eq!((person.uid, person.gid), (uid, gid), "{user:?}");
                assert_eq!(person.groups, groups, "{user:?}");
                assert_eq!(person.home, home, "{user:?}");
            }
            Err(part) => {
                let message = got.unwrap_err().message;
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        check("", None, Ok((0, 0, &[0, 1000], "/root")));
        check("www", None, Ok((33, 33, &[26, 33, 1000], "/var/www")));
        check("33", None, Ok((33, 33, &[26, 33, 1000], "/var/www")));
        check("www:tape", None, Ok((33, 26, &[26, 1000], "/var/www")));
        check("7:8", None, Ok((7, 8, &[8, 1000], "/")));
        check("7", Some(9), Ok((7, 9, &[9, 1000], "/")));
        check("bare", None, Ok((44, 44, &[44, 1000], "/")));
        check("nobody", None, Err("unable to find user nobody"));
        check("www:nogroup", None, Err("unable to find group nogroup"));
        check("4294967295", None, Err("unable to find user"));
        let strict = User {
            user: "www".to_owned(),
            group: None,
            additional_groups: vec![1000],
            strict: true,
        };
        check_user(strict, Ok((33, 33, &[33, 1000], "/var/www")));
    }

    #[test]
    fn any_bytes_in_the_files_are_survived() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..2000 {
            let mut text = String::new();
            for _ in 0..64 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let characters = [':', ':', '\n', ',', 'w', '0', '9', '\u{fffd}', '-'];
                text.push(characters[usize::try_from(seed % 9).unwrap()]);
            }
            let user = User {
                user: "w".to_owned(),
                group: None,
                additional_groups: Vec::new(),
                strict: false,
            };
            if let Ok(person) = resolve(&user, &text, &text) {
                assert!(person.uid <= ID_MAX, "round {round}: {text:?}");
            }
        }
    }
}
