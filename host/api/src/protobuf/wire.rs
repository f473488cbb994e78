//! The wire format of protobuf: tags, varints, lengths.

use super::ProtobufError;

/// One field's payload.
#[derive(Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, ProtobufError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Overflow)?;
        let wire = match (tag & 7) as u8 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let mut eight = [0; 8];
                eight.copy_from_slice(self.take(8)?);
                Wire::Fixed64(u64::from_le_bytes(eight))
            }
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::Overflow)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => return Err(ProtobufError::WireType(other)),
        };
        Ok(Some((number, wire)))
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut out = 0;
        for shift in (0..64).step_by(7) {
            let (&b, rest) = self.0.split_first().ok_or(ProtobufError::Truncated)?;
            self.0 = rest;
            out |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(ProtobufError::Overflow)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// The bytes of a varint: at most ten.
fn varint(mut n: u64) -> ([u8; 10], usize) {
    let mut out = [0; 10];
    let mut length = 0;
    for slot in &mut out {
        length += 1;
        *slot = (n & 0x7f) as u8;
        n >>= 7;
        if n == 0 {
            break;
        }
        *slot |= 0x80;
    }
    (out, length)
}

fn put_varint(out: &mut Vec<u8>, n: u64) {
    let (bytes, length) = varint(n);
    out.extend_from_slice(&bytes[..length]);
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

pub(super) fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    tag(out, number, 0);
    put_varint(out, value);
}

pub(super) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    tag(out, number, 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// What stands before `length` bytes of a field.
pub(super) fn put_head(out: &mut Vec<u8>, number: u32, length: usize) {
    tag(out, number, 2);
    put_varint(out, length as u64);
}

/// What `fill` writes, as the message of a field.
pub(super) fn put_message<E>(
    out: &mut Vec<u8>,
    number: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    tag(out, number, 2);
    // Most messages are short: their length takes the byte that is left here.
    let at = out.len();
    out.push(0);
    fill(out)?;
    let (bytes, length) = varint((out.len() - at - 1) as u64);
    match length {
        1 => out[at] = bytes[0],
        _ => drop(out.splice(at..=at, bytes[..length].iter().copied())),
    }
    Ok(())
}
