//! Dynamic programs of the build machine with only what they load.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _, ProgramHeader as _};

use crate::archive::Tree;

/// Where Debian's ld.so looks (the amd64 multiarch directories).
const DIRECTORIES: &[&str] = &["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"];

/// Adds `programs` at their own paths, their interpreter and their libraries.
pub fn add(tree: &mut Tree, programs: &[&str]) -> Result<()> {
    let mut open: Vec<(String, PathBuf)> = programs
        .iter()
        .map(|path| ((*path).to_owned(), PathBuf::from(path)))
        .collect();
    let mut seen = BTreeSet::new();
    while let Some((place, source)) = open.pop() {
        if !seen.insert(place.clone()) {
            continue;
        }
        let bytes = fs::read(&source).with_context(|| format!("reading {}", source.display()))?;
        let needs = needs(&bytes).with_context(|| source.display().to_string())?;
        tree.file(&place, 0o755, bytes)?;
        if let Some(interpreter) = needs.interpreter {
            open.push((interpreter.clone(), PathBuf::from(interpreter)));
        }
        for library in needs.libraries {
            open.push((format!("{}/{library}", DIRECTORIES[0]), find(&library)?));
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
}

fn needs(bytes: &[u8]) -> Result<Needs> {
    let elf = ElfFile64::<Endianness>::parse(bytes)?;
    let endian = elf.endian();
    let header = elf.elf_header();
    let mut found = Needs {
        interpreter: None,
        libraries: Vec::new(),
    };
    for segment in header.program_headers(endian, bytes)? {
        if segment.p_type(endian) == PT_INTERP {
            let data = segment.data(endian, bytes).ok().context("PT_INTERP")?;
            let name = data.split(|byte| *byte == 0).next().unwrap_or_default();
            found.interpreter = Some(String::from_utf8(name.to_vec())?);
        }
    }
    let sections = header.sections(endian, bytes)?;
    if let Some((entries, strings)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, strings)?;
        for entry in entries {
            if entry.d_tag(endian) == DT_NEEDED {
                let name = entry.string(endian, strings)?;
                found.libraries.push(String::from_utf8(name.to_vec())?);
            }
        }
    }
    let _: &FileHeader64<Endianness> = header;
    Ok(found)
}

fn find(library: &str) -> Result<PathBuf> {
    for directory in DIRECTORIES {
        let path = Path::new(directory).join(library);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("no library {library} in {DIRECTORIES:?}");
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_dynamic_program_names_its_interpreter_and_libc() {
        let found = needs(&fs::read("/usr/bin/env").unwrap()).unwrap();
        assert_eq!(
            found.interpreter.as_deref(),
            Some("/lib64/ld-linux-x86-64.so.2")
        );
        assert!(found.libraries.iter().any(|name| name == "libc.so.6"));
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        assert!(needs(b"#!/bin/sh\n").is_err());
    }
}
