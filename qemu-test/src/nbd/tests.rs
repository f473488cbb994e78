#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn medium() -> (tempfile::TempDir, Medium) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let platter = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    platter.set_len(1 << 20).unwrap();
    let medium = Medium {
        platter,
        pending: BTreeMap::new(),
        size: 1 << 20,
    };
    (directory, medium)
}

#[test]
fn reads_see_what_is_not_yet_durable() {
    let (_directory, mut medium) = medium();
    medium.write(1024, &[7; 1024]).unwrap();
    let seen = medium.read(1000, 1100).unwrap();
    assert!(seen[..24].iter().all(|byte| *byte == 0));
    assert!(seen[24..1048].iter().all(|byte| *byte == 7));
    assert!(seen[1048..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_cut_keeps_all_that_was_flushed_and_part_of_the_rest() {
    let (_directory, mut medium) = medium();
    medium.write(0, &[1; 64 * 512]).unwrap();
    medium.flush().unwrap();
    medium.write(64 * 512, &[2; 64 * 512]).unwrap();
    let (kept, lost) = medium.cut(1).unwrap();
    assert_eq!(kept + lost, 64);
    assert!(kept > 8 && lost > 8, "{kept} {lost}");
    let seen = medium.read(0, 128 * 512).unwrap();
    assert!(seen[..64 * 512].iter().all(|byte| *byte == 1));
    let sectors = seen[64 * 512..].chunks(512);
    assert_eq!(sectors.filter(|sector| sector[0] == 2).count(), kept);
}

#[test]
fn a_write_of_part_of_a_sector_is_refused() {
    let (_directory, mut medium) = medium();
    assert!(medium.write(1, &[0; 512]).is_err());
    assert!(medium.write(0, &[0; 100]).is_err());
}

/// A client's handshake and one write, flush and read, over the socket.
#[test]
fn a_client_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let supply = Supply::default();
    let device = Device::serve(directory.path(), "disk", 1 << 20, &supply).unwrap();
    let mut client = Client::connect(&device);
    client.write(9);
    client.flush();
    assert_eq!(client.read(), [9; 512]);
    assert_eq!(device.cut(1).unwrap(), (0, 0));
}

/// A cut that is due waits for a request with something to lose, and that one
/// gets no answer.
#[test]
fn power_goes_while_sectors_are_pending() {
    let directory = tempfile::tempdir().unwrap();
    let supply = Supply::default();
    let device = Device::serve(directory.path(), "disk", 1 << 20, &supply).unwrap();
    let mut client = Client::connect(&device);
    supply.arm(1);
    client.write(1);
    assert!(!supply.gone(Duration::ZERO));
    client.send(FLUSH, &[]);
    assert!(supply.gone(Duration::from_secs(60)));
    drop(client);
    let (kept, lost) = device.cut(1).unwrap();
    assert_eq!(kept + lost, 1);
    supply.restore();
    let mut client = Client::connect(&device);
    client.flush();
    assert_eq!(client.read(), [u8::try_from(kept).unwrap(); 512]);
}

const READ: u16 = 0;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;

/// Of one sector.
struct Client(UnixStream);

impl Client {
    fn connect(device: &Device) -> Client {
        let mut stream = UnixStream::connect(device.socket()).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        let mut hello = 3_u32.to_be_bytes().to_vec();
        hello.extend(OPTION_MAGIC.to_be_bytes());
        hello.extend([0, 0, 0, 1, 0, 0, 0, 0]);
        stream.write_all(&hello).unwrap();
        let mut export = [0; 10];
        stream.read_exact(&mut export).unwrap();
        assert_eq!(export[..8], (1_u64 << 20).to_be_bytes());
        Client(stream)
    }

    fn send(&mut self, command: u16, data: &[u8]) {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend(0_u16.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(77_u64.to_be_bytes());
        bytes.extend(512_u64.to_be_bytes());
        bytes.extend((if command == FLUSH { 0_u32 } else { 512 }).to_be_bytes());
        bytes.extend(data);
        self.0.write_all(&bytes).unwrap();
    }

    fn answer(&mut self, length: usize) -> Vec<u8> {
        let mut head = [0; 16];
        self.0.read_exact(&mut head).unwrap();
        assert_eq!(head[..8], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
        assert_eq!(head[8..], 77_u64.to_be_bytes());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        body
    }

    fn write(&mut self, byte: u8) {
        self.send(WRITE, &[byte; 512]);
        self.answer(0);
    }

    fn flush(&mut self) {
        self.send(FLUSH, &[]);
        self.answer(0);
    }

    fn read(&mut self) -> Vec<u8> {
        self.send(READ, &[]);
        self.answer(512)
    }
}
