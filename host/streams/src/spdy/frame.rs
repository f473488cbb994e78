//! SPDY/3.1 frames (2.2): `C | version 15 | type 16` or `0 | stream 31`, then
//! `flags 8 | length 24`.

use crate::FRAME_MAX;
use bytes::{BufMut, Bytes, BytesMut};

pub(crate) const HEADER_LEN: usize = 8;
const VERSION: u16 = 3;
/// The largest control frame: a header block of a stream.
const CONTROL_MAX: usize = 16 << 10;
const FLAG_FIN: u8 = 1;

pub(crate) const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
pub(crate) const RST_STREAM: u16 = 3;
pub(crate) const PING: u16 = 6;
const GOAWAY: u16 = 7;
pub(crate) const HEADERS: u16 = 8;

/// RST_STREAM status (2.6.3).
pub(crate) const REFUSED_STREAM: u32 = 3;

/// What the first eight bytes of a frame say, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Data {
        stream: u32,
        fin: bool,
        length: usize,
    },
    Control {
        kind: u16,
        fin: bool,
        length: usize,
    },
}

impl Head {
    pub(crate) fn decode(bytes: [u8; HEADER_LEN]) -> Result<Self, &'static str> {
        let [a, b, c, d, flags, e, f, g] = bytes;
        let length = u32::from_be_bytes([0, e, f, g]) as usize;
        let fin = flags & FLAG_FIN != 0;
        if a & 0x80 == 0 {
            if length > FRAME_MAX {
                return Err("a data frame is too large");
            }
            let stream = u32::from_be_bytes([a, b, c, d]);
            return Ok(Self::Data {
                stream,
                fin,
                length,
            });
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err("not version 3 of SPDY");
        }
        if length > CONTROL_MAX {
            return Err("a control frame is too large");
        }
        let kind = u16::from_be_bytes([c, d]);
        Ok(Self::Control { kind, fin, length })
    }
}

pub(crate) fn data(to: &mut BytesMut, stream: u32, fin: bool, data: &[u8]) {
    to.put_u32(stream & 0x7fff_ffff);
    put_flags_and_length(to, if fin { FLAG_FIN } else { 0 }, data.len());
    to.put_slice(data);
}

pub(crate) fn syn_reply(stream: u32, block: &[u8]) -> Bytes {
    with_stream(SYN_REPLY, stream, block)
}

pub(crate) fn rst_stream(stream: u32, status: u32) -> Bytes {
    with_stream(RST_STREAM, stream, &status.to_be_bytes())
}

pub(crate) fn ping(id: u32) -> Bytes {
    control(PING, 0, &id.to_be_bytes())
}

/// Status 0: nothing was wrong.
pub(crate) fn go_away(last: u32) -> Bytes {
    with_stream(GOAWAY, last, &[0; 4])
}

fn with_stream(kind: u16, stream: u32, payload: &[u8]) -> Bytes {
    let mut bytes = stream.to_be_bytes().to_vec();
    bytes.extend_from_slice(payload);
    control(kind, 0, &bytes)
}

pub(crate) fn control(kind: u16, flags: u8, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_LEN + payload.len());
    bytes.put_u16(0x8000 | VERSION);
    bytes.put_u16(kind);
    put_flags_and_length(&mut bytes, flags, payload.len());
    bytes.put_slice(payload);
    bytes.freeze()
}

fn put_flags_and_length(to: &mut BytesMut, flags: u8, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    to.put_u32(u32::from(flags) << 24 | length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        let mut bytes = BytesMut::new();
        data(&mut bytes, 5, true, b"text");
        let head = bytes.first_chunk().copied().map(Head::decode);
        let expected = Head::Data {
            stream: 5,
            fin: true,
            length: 4,
        };
        assert_eq!(head, Some(Ok(expected)));
        let head = ping(7).first_chunk().copied().map(Head::decode);
        let expected = Head::Control {
            kind: PING,
            fin: false,
            length: 4,
        };
        assert_eq!(head, Some(Ok(expected)));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for bytes in [
            [0, 0, 0, 1, 0, 255, 255, 255],
            [0x80, 3, 0, 1, 0, 255, 255, 255],
            [0x80, 2, 0, 1, 0, 0, 0, 0],
        ] {
            assert!(Head::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
