//! `atoll store`: what an operator does with the store beside the API.
//!
//! `snapshot` and `status` only read, also while `control` runs on the same
//! store; `restore` and `copy` make a new one and refuse one that is there.
//! What is damaged is named by file and offset, and nothing is changed.

use super::etcd::EtcdArguments;
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

/// A store: below a data directory, or in an etcd.
#[derive(clap::Args)]
struct Place {
    /// That of `atoll control`.
    #[arg(long, required_unless_present = "etcd_servers")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    etcd: EtcdArguments,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Engine {
    Etcd,
    Embedded,
}

#[derive(Subcommand)]
enum Action {
    /// Write everything at one revision to FILE, which must not exist yet.
    /// The store may be in use.
    Snapshot {
        #[command(flatten)]
        place: Place,
        file: PathBuf,
    },
    /// Fill a data directory or an etcd that has no store, from a snapshot.
    Restore {
        #[command(flatten)]
        place: Place,
        file: PathBuf,
        /// How far above the snapshot revisions go on: more than were given
        /// out since it was taken.
        #[arg(long, default_value_t = BUMP)]
        bump_revision: u64,
    },
    /// From the data directory to the etcd or back: a snapshot, restored.
    Copy {
        #[arg(long)]
        data_dir: PathBuf,
        #[command(flatten)]
        etcd: EtcdArguments,
        /// The engine that is filled.
        #[arg(long, requires = "etcd_servers")]
        to: Engine,
        /// As for `restore`.
        #[arg(long, default_value_t = BUMP)]
        bump_revision: u64,
    },
    /// Read a store or a snapshot through and say what it holds.
    Status {
        #[arg(long)]
        data_dir: Option<PathBuf>,
        #[command(flatten)]
        etcd: EtcdArguments,
        #[arg(
            required_unless_present_any = ["data_dir", "etcd_servers"],
            conflicts_with_all = ["data_dir", "etcd_servers"]
        )]
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
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: Action) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        Ok(match action {
            Action::Snapshot { place, file } => {
                let contents = place.snapshot().await?.write(&file)?;
                format!("{}: {}", file.display(), told(contents))
            }
            Action::Restore {
                place,
                file,
                bump_revision,
            } => told(place.restore(&file, bump_revision).await?),
            Action::Copy {
                data_dir,
                etcd,
                to,
                bump_revision,
            } => told(copy(data_dir, etcd, to, bump_revision).await?),
            Action::Status {
                file: Some(file), ..
            } => told(store::inspect(&file)?),
            Action::Status { data_dir, etcd, .. } => {
                told(Place { data_dir, etcd }.snapshot().await?.contents())
            }
        })
    })
}

impl Place {
    async fn snapshot(self) -> Result<Snapshot, StoreError> {
        match self.etcd.given() {
            Some(etcd) => Snapshot::of_etcd(&etcd.options()?).await,
            None => Snapshot::of_directory(&store_of(&self.data_dir.unwrap_or_default())),
        }
    }

    async fn restore(self, file: &Path, bump: u64) -> Result<Contents, StoreError> {
        match self.etcd.given() {
            Some(etcd) => store::restore_to_etcd(file, &etcd.options()?, bump).await,
            None => store::restore(file, &store_of(&self.data_dir.unwrap_or_default()), bump),
        }
    }
}

/// By way of a file in the data directory.
async fn copy(
    data_dir: PathBuf,
    etcd: EtcdArguments,
    to: Engine,
    bump: u64,
) -> anyhow::Result<Contents> {
    let file = data_dir.join("copy.snapshot");
    let embedded = Place {
        data_dir: Some(data_dir),
        etcd: EtcdArguments::default(),
    };
    let etcd = Place {
        data_dir: None,
        etcd,
    };
    let (from, to) = match to {
        Engine::Etcd => (embedded, etcd),
        Engine::Embedded => (etcd, embedded),
    };
    from.snapshot().await?.write(&file)?;
    let copied = to.restore(&file, bump).await;
    std::fs::remove_file(&file)?;
    Ok(copied?)
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

    fn run(words: &[&str]) -> anyhow::Result<String> {
        let all = ["atoll store"].iter().chain(words);
        act(Arguments::try_parse_from(all).unwrap().action)
    }

    #[test]
    fn an_operator_saves_looks_and_restores() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (old, new, file) = (path("old"), path("new"), path("file"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Store::open(&store_of(Path::new(&old)), Options::default()).unwrap();
        let then = vec![Op::Put {
            key: "key".into(),
            value: "value".into(),
        }];
        let compare = Vec::new();
        runtime.block_on(store.txn(Txn { compare, then })).unwrap();
        // The store is in use.
        let saved = run(&["snapshot", "--data-dir", &old, &file]).unwrap();
        assert!(saved.contains("1 keys, 8 bytes"), "{saved}");
        let status = run(&["status", &file]).unwrap();
        assert!(saved.ends_with(&status), "{saved}; {status}");
        assert_eq!(run(&["status", "--data-dir", &old]).unwrap(), status);
        let onto = run(&["restore", "--data-dir", &old, &file]);
        let onto = onto.unwrap_err().downcast();
        assert!(matches!(onto, Ok(StoreError::Exists { .. })));
        run(&["restore", "--data-dir", &new, "--bump-revision", "7", &file]).unwrap();
        runtime.block_on(store.close()).unwrap();
        let store = Store::open(&store_of(Path::new(&new)), Options::default()).unwrap();
        assert_eq!(store.range(&Range::key("key")).unwrap().items.len(), 1);
        runtime.block_on(store.close()).unwrap();

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

    #[test]
    fn what_goes_together_is_checked() {
        let etcd = ["--etcd-servers", "http://a:1,http://b:1"];
        let fine = |words: &[&str]| {
            let all = ["atoll store"].iter().chain(words);
            Arguments::try_parse_from(all).is_ok()
        };
        for (words, good) in [
            (&["status"][..], false),
            (&["status", "file"], true),
            (&["status", "--data-dir", "d"], true),
            (&["status", "--data-dir", "d", "file"], false),
            (&["status", etcd[0], etcd[1]], true),
            (&["snapshot", "file"], false),
            (&["snapshot", etcd[0], etcd[1], "file"], true),
            (
                &["snapshot", etcd[0], etcd[1], "--etcd-certfile", "c", "file"],
                false,
            ),
            (
                &["snapshot", "--data-dir", "d", "--etcd-cafile", "c", "file"],
                false,
            ),
            (&["copy", "--data-dir", "d", "--to", "etcd"], false),
            (
                &["copy", "--data-dir", "d", "--to", "etcd", etcd[0], etcd[1]],
                true,
            ),
        ] {
            assert_eq!(fine(words), good, "{words:?}");
        }
    }
}
