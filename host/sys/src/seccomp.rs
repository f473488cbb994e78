//! Allow-lists of system calls for threads; what is not listed kills the process.
//!
//! The filter is a binary tree over the numbers of the calls. The kernel runs
//! it once for every number there is when it is installed (to remember which
//! are allowed whatever their arguments), so a plain list of some fifty calls
//! costs a million instructions, this a tenth of that.

use seccompiler::sock_filter;
use std::collections::BTreeMap;
use std::io;

pub use nix::libc as numbers;

/// A condition on one argument.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// The low 32 bits of the argument are this.
    Is(u8, u32),
    /// None of these bits is set.
    Without(u8, u32),
}

/// One allowed call. Several entries of the same number are alternatives.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub number: i64,
    /// All must hold.
    pub when: &'static [Arg],
    pub reason: &'static str,
    /// It answers ENOSYS, as on a kernel without it.
    pub absent: bool,
}

/// Allows a call with whatever arguments.
#[must_use]
pub const fn call(number: i64, reason: &'static str) -> Call {
    Call {
        number,
        when: &[],
        reason,
        absent: false,
    }
}

/// A call that is tried first, where another one serves whose arguments a filter
/// can see.
#[must_use]
pub const fn absent(number: i64, reason: &'static str) -> Call {
    Call {
        number,
        when: &[],
        reason,
        absent: true,
    }
}

/// Allows a call under conditions.
#[must_use]
pub const fn call_when(number: i64, when: &'static [Arg], reason: &'static str) -> Call {
    Call {
        number,
        when,
        reason,
        absent: false,
    }
}

/// Confines the calling thread, and those that it starts, to the lists.
///
/// # Errors
/// EINVAL for a list that can't be compiled, else as `seccomp(2)`.
pub fn confine(lists: &[&[Call]]) -> io::Result<()> {
    let program = compile(lists).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

type Rules<'a> = BTreeMap<u32, Vec<&'a Call>>;

/// Offsets in `struct seccomp_data`, little-endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
const AUDIT_ARCH_X86_64: u32 = 0xC000_003E;

const ALLOW: u32 = numbers::SECCOMP_RET_ALLOW;
const KILL: u32 = numbers::SECCOMP_RET_KILL_PROCESS;
const ABSENT: u32 = numbers::SECCOMP_RET_ERRNO | numbers::ENOSYS as u32;

const LOAD: u16 = (numbers::BPF_LD | numbers::BPF_W | numbers::BPF_ABS) as u16;
const AND: u16 = (numbers::BPF_ALU | numbers::BPF_AND | numbers::BPF_K) as u16;
const EQUAL: u16 = (numbers::BPF_JMP | numbers::BPF_JEQ | numbers::BPF_K) as u16;
const AT_LEAST: u16 = (numbers::BPF_JMP | numbers::BPF_JGE | numbers::BPF_K) as u16;
const JUMP: u16 = (numbers::BPF_JMP | numbers::BPF_JA) as u16;
const RETURN: u16 = (numbers::BPF_RET | numbers::BPF_K) as u16;

fn compile(lists: &[&[Call]]) -> Option<Vec<sock_filter>> {
    let mut rules = Rules::new();
    for entry in lists.iter().copied().flatten() {
        let number = u32::try_from(entry.number).ok()?;
        rules.entry(number).or_default().push(entry);
    }
    let rules: Vec<(u32, Vec<&Call>)> = rules.into_iter().collect();
    let mut program = vec![
        plain(LOAD, ARCHITECTURE),
        branch(EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        plain(RETURN, KILL),
        plain(LOAD, NUMBER),
    ];
    program.extend(tree(&rules)?);
    Some(program)
}

/// Finds the number among the rules, which are sorted by it.
fn tree(rules: &[(u32, Vec<&Call>)]) -> Option<Vec<sock_filter>> {
    match rules {
        [] => Some(vec![plain(RETURN, KILL)]),
        [(number, alternatives)] => {
            let mut code = vec![branch(EQUAL, *number, 1, 0), plain(RETURN, KILL)];
            code.extend(leaf(alternatives)?);
            Some(code)
        }
        _ => {
            let (low, high) = rules.split_at(rules.len() / 2);
            let middle = high.first()?.0;
            let left = tree(low)?;
            let mut code = vec![
                branch(AT_LEAST, middle, 0, 1),
                plain(JUMP, u32::try_from(left.len()).ok()?),
            ];
            code.extend(left);
            code.extend(tree(high)?);
            Some(code)
        }
    }
}

/// Allows if all conditions of one alternative hold.
fn leaf(alternatives: &[&Call]) -> Option<Vec<sock_filter>> {
    if let Some(call) = alternatives.iter().find(|call| call.when.is_empty()) {
        return Some(vec![plain(
            RETURN,
            if call.absent { ABSENT } else { ALLOW },
        )]);
    }
    let mut code = Vec::new();
    for call in alternatives {
        let mut block = Vec::new();
        for condition in call.when.iter().rev() {
            // Past the rest of the block: a byte, as the block is short.
            let skip = u8::try_from(block.len() + 1).ok()?;
            let (index, test) = match *condition {
                Arg::Is(index, value) => (index, vec![branch(EQUAL, value, 0, skip)]),
                Arg::Without(index, bits) => {
                    (index, vec![plain(AND, bits), branch(EQUAL, 0, 0, skip)])
                }
            };
            if index > 5 {
                return None;
            }
            let mut checked = vec![plain(LOAD, ARGUMENTS + 8 * u32::from(index))];
            checked.extend(test);
            checked.extend(block);
            block = checked;
        }
        code.extend(block);
        code.push(plain(RETURN, ALLOW));
    }
    code.push(plain(RETURN, KILL));
    Some(code)
}

const fn plain(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Runs a filter on a call, as the kernel would.
    fn run(program: &[sock_filter], number: u32, arguments: [u32; 6]) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match step.code {
                LOAD if step.k == NUMBER => a = number,
                LOAD if step.k == ARCHITECTURE => a = AUDIT_ARCH_X86_64,
                LOAD => a = arguments[(step.k as usize - 16) / 8],
                AND => a &= step.k,
                JUMP => at += step.k as usize,
                EQUAL => at += usize::from(if a == step.k { step.jt } else { step.jf }),
                AT_LEAST => at += usize::from(if a >= step.k { step.jt } else { step.jf }),
                RETURN => return step.k,
                other => panic!("code {other}"),
            }
        }
    }

    #[test]
    fn only_listed_calls_pass() {
        const A: &[Call] = &[
            call(0, ""),
            call_when(16, &[Arg::Is(1, 7)], ""),
            call_when(16, &[Arg::Is(1, 8), Arg::Without(2, 6)], ""),
            call_when(9, &[Arg::Without(2, 4)], ""),
        ];
        const B: &[Call] = &[
            call(60, ""),
            call(231, ""),
            call_when(60, &[Arg::Is(0, 1)], ""),
            absent(435, ""),
        ];
        let program = compile(&[A, B]).unwrap();
        let at = |index: usize, value| {
            let mut arguments = [0; 6];
            arguments[index] = value;
            arguments
        };
        assert_eq!(run(&program, 435, [0; 6]), ABSENT);
        for number in 0..500 {
            let expected = [0, 9, 60, 231].contains(&number);
            let seen = run(&program, number, [0; 6]) == ALLOW;
            assert_eq!(seen, expected, "{number}");
        }
        for (number, arguments, allowed) in [
            (16, at(1, 7), true),
            (16, at(1, 8), true),
            (16, [0, 8, 2, 0, 0, 0], false),
            (16, [0, 8, 1, 0, 0, 0], true),
            (9, at(2, 4), false),
            (9, at(2, 3), true),
        ] {
            let seen = run(&program, number, arguments) == ALLOW;
            assert_eq!(seen, allowed, "{number} {arguments:?}");
        }
    }
}
