#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::io::Write;
use vm_memory::VolatileMemory;

fn volume(bytes: usize, access: Access) -> Volume {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![0xA5; bytes]).unwrap();
    Volume::new(file.into(), access).unwrap()
}

#[test]
fn what_is_written_is_read() {
    let volume = volume(4096, Access::ReadWrite);
    let mut bytes = [7_u8; 1024];
    let (mut head, mut tail) = bytes.split_at_mut(200);
    volume
        .write(
            2,
            &[
                VolatileSlice::from(&mut *head),
                VolatileSlice::from(&mut *tail),
            ],
        )
        .unwrap();
    (head, tail) = (vec![0; 200].leak(), vec![0; 824].leak());
    let slices = [VolatileSlice::from(head), VolatileSlice::from(tail)];
    volume.read(2, &slices).unwrap();
    let mut seen = [0_u8; 200];
    slices[0].copy_to(&mut seen);
    assert_eq!(seen, [7; 200]);
    volume.flush().unwrap();
}

#[test]
fn extents_outside_are_refused() {
    let volume = volume(4096 + 100, Access::ReadWrite);
    assert_eq!(volume.sectors(), 8);
    let mut buffer = [0_u8; 1024];
    for (first, bytes, fits) in [
        (0, 1024, true),
        (6, 1024, true),
        (7, 1024, false),
        (8, 0, true),
        (9, 0, false),
        (u64::MAX, 512, false),
        (u64::MAX / 512, 1024, false),
        (0, 100, false),
    ] {
        let slice = VolatileSlice::from(&mut buffer[..]);
        let slice = slice.get_slice(0, bytes).unwrap();
        let slices = [slice];
        assert_eq!(volume.read(first, &slices).is_ok(), fits, "{first}+{bytes}");
        assert_eq!(
            volume.write(first, &slices).is_ok(),
            fits,
            "{first}+{bytes}"
        );
    }
    assert!(volume.discard(u64::MAX, 1).is_err());
    assert!(volume.discard(0, u64::MAX).is_err());
}

#[test]
fn discarded_sectors_read_as_zeroes() {
    for discard in [Volume::discard, Volume::write_zeroes] {
        let volume = volume(8192, Access::ReadWrite);
        discard(&volume, 0, 8).unwrap();
        let mut buffer = [1_u8; 8192];
        volume
            .read(0, &[VolatileSlice::from(&mut buffer[..])])
            .unwrap();
        assert_eq!((buffer[4095], buffer[4096]), (0, 0xA5));
    }
}

#[test]
fn a_read_only_disk_is_not_written() {
    let volume = volume(4096, Access::ReadOnly);
    let mut buffer = [0_u8; 512];
    let slices = [VolatileSlice::from(&mut buffer[..])];
    assert!(matches!(
        volume.write(0, &slices),
        Err(VolumeError::ReadOnly)
    ));
    assert!(matches!(volume.discard(0, 1), Err(VolumeError::ReadOnly)));
    assert!(volume.flush().is_ok());
}
