#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

#[test]
fn the_mp_table_adds_up() {
    for vcpus in [1, 2, 64] {
        let table = mp_table::build(NonZeroU8::new(vcpus).unwrap());
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let (pointer, rest) = table.split_at(16);
        assert_eq!(sum(pointer), 0);
        assert_eq!(sum(rest), 0);
        let length = u16::from_le_bytes([rest[4], rest[5]]);
        assert_eq!(usize::from(length), rest.len());
        let count = u16::from_le_bytes([rest[34], rest[35]]);
        assert_eq!(count, u16::from(vcpus) + 1 + 1 + 24 + 2);
    }
}
