//! Results of a MiB each, as many as one likes.

use std::{fs::OpenOptions, io::Write, path::Path};

/// The size of a result.
const MIB: usize = 1 << 20;

/// A MiB. Each run leaves a byte in a file.
#[cw::job]
pub(crate) fn mib(n: u64, runs: &Path) -> serde_bytes::ByteBuf {
    let file = OpenOptions::new().append(true).create(true).open(runs);
    file.and_then(|mut file| file.write_all(b"x")).expect("the test's folder can be written to");
    serde_bytes::ByteBuf::from(vec![n.to_le_bytes()[0]; MIB])
}

pub(crate) async fn bulk(count: u64, runs: &Path) -> cw::Result<()> {
    let mut all = cw::map(mib, (0..count).map(|n| (n, runs))).unordered();
    let mut first = true;
    while let Some((index, result)) = all.next().await {
        let bytes = result?;
        assert_eq!((bytes.len(), bytes[0]), (MIB, index.to_le_bytes()[0]));
        if std::mem::take(&mut first) {
            println!("first");
        }
    }
    Ok(())
}
