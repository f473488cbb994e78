//! `atoll store`: what an operator does with the store beside the API.
//!
//! `snapshot` and `status` only read, also while `control` runs on the same
//! directory; `restore` makes a new directory and refuses one that is there.
//! What is damaged is named by file and offset, and nothing is changed.

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store::{BUMP, Contents, Snapshot, StoreError};

#[derive(Parser)]
#[command(name = "atoll store", about = "Snapshots of the API's store")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write everything at one revision to FILE, which must not exist yet.
    /// The store may be in use.
    Snapshot {
        /// That of `atoll control`.
        #[arg(long)]
        data_dir: PathBuf,
        file: PathBuf,
    },
    /// Make the store of a data directory that has none, from a snapshot.
    Restore {
        #[arg(long)]
        data_dir: PathBuf,
        file: PathBuf,
        /// How far above the snapshot revisions go on: more than were given
        /// out since it was taken.
        #[arg(long, default_value_t = BUMP)]
        bump_revision: u64,
    },
    /// Read a store or a snapshot through and say what it holds.
    Status {
        #[arg(long, required_unless_present = "file")]
        data_dir: Option<PathBuf>,
        #[arg(conflicts_with = "data_dir")]
        file: Option<PathBuf>,
    },
}

pub(crate) fn main(words: &[&str]) -> ExitCode {
    let all = ["atoll store"].iter().chain(words);
    let arguments = match Arguments::try_parse_from(all) {
        Ok(arguments) => arguments,
        Err(error) => {
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match act(arguments.action) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: Action) -> Result<String, StoreError> {
    Ok(match action {
        Action::Snapshot { data_dir, file } => {
            let contents = Snapshot::of_directory(&store_of(&data_dir))?.write(&file)?;
            format!("{}: {}", file.display(), told(contents))
        }
        Action::Restore {
            data_dir,
            file,
            bump_revision,
        } => {
            let dir = store_of(&data_dir);
            let contents = store::restore(&file, &dir, bump_revision)?;
            format!("{}: {}", dir.display(), told(contents))
        }
        Action::Status { data_dir, file } => told(match (data_dir, file) {
            (_, Some(file)) => store::inspect(&file)?,
            (data_dir, None) => {
                let dir = store_of(&data_dir.unwrap_or_default());
                Snapshot::of_directory(&dir)?.contents()
            }
        }),
    })
}

fn store_of(data_dir: &Path) -> PathBuf {
    data_dir.join(apiserver::STORE)
}

fn told(contents: Contents) -> String {
    format!(
        "revision {}, {} keys, {} bytes, no revision given out above {}",
        contents.revision, contents.keys, contents.bytes, contents.high_water
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use store::{Op, Options, Range, Store, Txn};

    fn run(words: &[&str]) -> Result<String, StoreError> {
        let all = ["atoll store"].iter().chain(words);
        act(Arguments::try_parse_from(all).unwrap().action)
    }

    #[tokio::test]
    async fn an_operator_saves_looks_and_restores() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (old, new, file) = (path("old"), path("new"), path("file"));
        let store = Store::open(&store_of(Path::new(&old)), Options::default()).unwrap();
        let then = vec![Op::Put {
            key: "key".into(),
            value: "value".into(),
        }];
        let compare = Vec::new();
        store.txn(Txn { compare, then }).await.unwrap();
        // The store is in use.
        let saved = run(&["snapshot", "--data-dir", &old, &file]).unwrap();
        assert!(saved.contains("1 keys, 8 bytes"), "{saved}");
        let status = run(&["status", &file]).unwrap();
        assert!(saved.ends_with(&status), "{saved}; {status}");
        assert_eq!(run(&["status", "--data-dir", &old]).unwrap(), status);
        let onto = run(&["restore", "--data-dir", &old, &file]);
        assert!(matches!(onto, Err(StoreError::Exists { .. })));
        run(&["restore", "--data-dir", &new, "--bump-revision", "7", &file]).unwrap();
        store.close().await.unwrap();
        let store = Store::open(&store_of(Path::new(&new)), Options::default()).unwrap();
        assert_eq!(store.range(&Range::key("key")).unwrap().items.len(), 1);
        store.close().await.unwrap();

        let mut bytes = std::fs::read(&file).unwrap();
        let last = bytes.len() - 40;
        bytes[last] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let damaged = run(&["status", &file]).unwrap_err().to_string();
        assert!(
            damaged.contains(&file) && damaged.contains("damaged at offset"),
            "{damaged}"
        );
    }
}
