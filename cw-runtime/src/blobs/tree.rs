//! What a blob is called, and how each piece of it is checked on its own. Knows bytes, not files or peers.
//!
//! BLAKE3 is a tree, and 1 MiB of content is always a whole subtree of it. The values of these subtrees, the
//! outline, merge to the very hash of the content: who trusts the id need not trust who sent the outline, and a
//! chunk that fits the outline is right before the rest has come.

use std::fmt;
use std::io::{self, Read};

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

/// The bytes of a chunk, except that the last one of a blob may be shorter.
///
/// It has to be a power of two of at least 1024, or a chunk would not be a subtree.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// No blob is larger (64 GiB), which keeps an outline at 2 MiB or less.
pub(crate) const BLOB_BYTES_MAX: u64 = 64 << 30;

/// The name of a blob: the plain BLAKE3 hash of its content, as `b3sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct BlobId(pub(crate) [u8; 32]);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

impl BlobId {
    /// The id of content that is in memory.
    pub(crate) fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

/// The hashes of a blob's chunks, from which follows the id of the whole.
///
/// One from outside means nothing until [`is_of`](Self::is_of) has said yes; no method panics on it before that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outline {
    /// The size of the content.
    pub(crate) bytes: u64,
    /// In the content's order; empty when there is one chunk at most, as the id itself checks that one.
    chunks: Vec<ChainingValue>,
}

impl Outline {
    /// Reads content to its end, in one pass, with a buffer of a single chunk.
    ///
    /// # Errors
    /// What the reader says; `FileTooLarge` when there are more than [`BLOB_BYTES_MAX`] bytes.
    pub(crate) fn of(reader: impl Read) -> io::Result<(BlobId, Self)> {
        Self::of_at_most(BLOB_BYTES_MAX, reader)
    }

    fn of_at_most(bytes_max: u64, mut reader: impl Read) -> io::Result<(BlobId, Self)> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut outline = Self { bytes: 0, chunks: Vec::new() };
        let mut id = BlobId::of(b"");
        loop {
            let filled = fill(&mut reader, &mut buffer)?;
            if filled == 0 {
                break;
            }
            let hasher = chunk_hasher(outline.bytes, &buffer[..filled]);
            // Only when no second chunk comes is the first one the whole tree.
            if outline.chunks.is_empty() {
                id = BlobId(*hasher.finalize().as_bytes());
            }
            outline.chunks.push(hasher.finalize_non_root());
            outline.bytes += filled as u64;
            if outline.bytes > bytes_max {
                let text = format!("a blob has at most {bytes_max} bytes");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
            }
        }
        match merged(&outline.chunks) {
            Some(root) => id = root,
            None => outline.chunks.clear(),
        }
        Ok((id, outline))
    }

    /// Whether this can be the outline of that blob: every chunk that fits it is then a right one.
    ///
    /// Yes does not mean that chunks which fit exist: a peer can lie about the size in ways that show only at
    /// the first or last chunk, none of which then fits.
    pub(crate) fn is_of(&self, id: BlobId) -> bool {
        match self.chunk_count() {
            // There will be no chunk to find the lie.
            0 => self.chunks.is_empty() && id == BlobId::of(b""),
            1 => self.chunks.is_empty(),
            count => {
                self.bytes <= BLOB_BYTES_MAX
                    && self.chunks.len() as u64 == count
                    && merged(&self.chunks) == Some(id)
            }
        }
    }

    /// How many chunks the content has; none when it is empty.
    pub(crate) fn chunk_count(&self) -> u64 {
        self.bytes.div_ceil(CHUNK_BYTES as u64)
    }

    /// The bytes of one chunk, counted from 0; 0 when there is no such chunk.
    pub(crate) fn chunk_len(&self, index: u64) -> usize {
        if index >= self.chunk_count() {
            return 0;
        }
        let left = self.bytes - index * CHUNK_BYTES as u64;
        usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES))
    }

    /// Whether these bytes are that chunk of the blob, counted from 0, given that [`is_of`](Self::is_of) holds.
    pub(crate) fn fits(&self, id: BlobId, index: u64, bytes: &[u8]) -> bool {
        // Checked here as well, as the hasher may panic at offsets that no real content has.
        let is_chunk = index < self.chunk_count() && self.bytes <= BLOB_BYTES_MAX;
        if !is_chunk || bytes.len() != self.chunk_len(index) {
            return false;
        }
        if self.chunk_count() == 1 {
            return BlobId::of(bytes) == id;
        }
        let wanted = usize::try_from(index).ok().and_then(|index| self.chunks.get(index));
        let found = chunk_hasher(index * CHUNK_BYTES as u64, bytes).finalize_non_root();
        wanted == Some(&found)
    }
}

/// The place goes into the hash, so that a chunk fits nowhere else.
fn chunk_hasher(offset: u64, bytes: &[u8]) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset).update(bytes);
    hasher
}

/// The root above at least two chunks.
///
/// Pairs are merged layer by layer and an odd one moves up: the shape BLAKE3 gives to any number of chunks.
fn merged(chunks: &[ChainingValue]) -> Option<BlobId> {
    let mut layer = chunks.to_vec();
    while layer.len() > 2 {
        layer = layer.chunks(2).map(merged_pair).collect();
    }
    let [left, right] = layer.as_slice() else { return None };
    Some(BlobId(*merge_subtrees_root(left, right, Mode::Hash).as_bytes()))
}

fn merged_pair(pair: &[ChainingValue]) -> ChainingValue {
    match pair {
        [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
        odd => odd[0],
    }
}

/// Reads until the buffer is full or the content ends: chunks end where the buffer does, not where a read does.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 8] = [
        0,
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES,
        3 * CHUNK_BYTES + 7,
        9 * CHUNK_BYTES + 1,
    ];

    /// No two chunks of it are alike.
    fn content(bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        Hasher::new().update(b"content").finalize_xof().fill(&mut content);
        content
    }

    fn outlined(content: &[u8]) -> (BlobId, Outline) {
        Outline::of(content).unwrap()
    }

    /// Gives a few bytes at a time, and an interruption now and then.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let end = buffer.len().min(70_001);
            self.0.read(&mut buffer[..end])
        }
    }

    #[test]
    fn the_id_is_the_plain_hash_and_every_chunk_fits() {
        for size in SIZES {
            let content = content(size);
            let (id, outline) = outlined(&content);
            assert_eq!(id.0, *blake3::hash(&content).as_bytes(), "{size} bytes");
            assert!(outline.is_of(id), "{size} bytes");
            assert_eq!(outline.chunk_count(), content.chunks(CHUNK_BYTES).count() as u64);
            for (index, chunk) in (0..).zip(content.chunks(CHUNK_BYTES)) {
                assert_eq!(outline.chunk_len(index), chunk.len());
                assert!(outline.fits(id, index, chunk), "chunk {index} of {size} bytes");
            }
        }
    }

    #[test]
    fn a_reader_that_gives_little_at_a_time_makes_no_difference() {
        let content = content(3 * CHUNK_BYTES + 7);
        assert_eq!(Outline::of(Dribble(&content, 0)).unwrap(), outlined(&content));
    }

    #[test]
    fn a_flipped_bit_does_not_fit() {
        for size in SIZES {
            let mut content = content(size);
            let (id, outline) = outlined(&content);
            for (index, chunk) in (0..).zip(content.chunks_mut(CHUNK_BYTES)) {
                for place in [0, chunk.len() / 2, chunk.len() - 1] {
                    chunk[place] ^= 0x10;
                    assert!(!outline.fits(id, index, chunk), "byte {place} of chunk {index}");
                    chunk[place] ^= 0x10;
                }
            }
        }
    }

    #[test]
    fn a_chunk_of_another_length_or_at_another_place_does_not_fit() {
        let content = content(3 * CHUNK_BYTES + 7);
        let (id, outline) = outlined(&content);
        let chunk = &content[CHUNK_BYTES..2 * CHUNK_BYTES];
        assert!(outline.fits(id, 1, chunk));
        for place in [0, 2, 3, 4, u64::MAX] {
            assert!(!outline.fits(id, place, chunk), "at {place}");
        }
        assert!(!outline.fits(id, 1, &chunk[1..]));
        assert!(!outline.fits(id, 1, &content[CHUNK_BYTES..=2 * CHUNK_BYTES]));
        assert!(!outline.fits(id, 3, b""));
        assert!(!outline.fits(id, 4, b""));
        assert_eq!((outline.chunk_len(3), outline.chunk_len(4), outline.chunk_len(u64::MAX)), (7, 0, 0));
    }

    #[test]
    fn an_outline_with_other_chunks_is_not_of_the_blob() {
        let (id, honest) = outlined(&content(3 * CHUNK_BYTES + 7));
        let lies: [fn(&mut Outline); 7] = [
            |lie| lie.chunks[2][31] ^= 1,
            |lie| lie.chunks.swap(0, 1),
            |lie| lie.chunks.truncate(3),
            |lie| lie.chunks.push([0; 32]),
            |lie| lie.chunks.clear(),
            |lie| lie.bytes += CHUNK_BYTES as u64,
            |lie| lie.bytes = 2 * CHUNK_BYTES as u64,
        ];
        for (number, lie) in lies.iter().enumerate() {
            let mut outline = honest.clone();
            lie(&mut outline);
            assert!(!outline.is_of(id), "lie {number}");
        }
    }

    #[test]
    fn the_two_halves_of_a_tree_pass_for_chunks_but_no_content_fits_them() {
        let content = content(4 * CHUNK_BYTES);
        let (id, honest) = outlined(&content);
        let halves = honest.chunks.chunks(2).map(merged_pair).collect();
        let lie = Outline { bytes: 2 * CHUNK_BYTES as u64, chunks: halves };
        assert!(lie.is_of(id));
        for chunk in content.chunks(CHUNK_BYTES) {
            assert!(!lie.fits(id, 0, chunk) && !lie.fits(id, 1, chunk));
        }
    }

    #[test]
    fn a_lie_about_the_size_shows_at_the_last_chunk() {
        let content = content(CHUNK_BYTES + 9);
        let (id, mut outline) = outlined(&content);
        outline.bytes -= 1;
        assert!(!outline.fits(id, 1, &content[CHUNK_BYTES..]));
        assert!(!outline.fits(id, 1, &content[CHUNK_BYTES..CHUNK_BYTES + 8]));
    }

    #[test]
    fn an_empty_outline_is_of_the_empty_blob_only() {
        let empty = Outline { bytes: 0, chunks: vec![] };
        assert!(empty.is_of(BlobId::of(b"")) && !empty.is_of(BlobId::of(b"x")));
        assert!(!Outline { bytes: 0, chunks: vec![[0; 32]] }.is_of(BlobId::of(b"")));
        assert!(!Outline { bytes: 1, chunks: vec![[0; 32]] }.is_of(BlobId::of(b"x")));
    }

    #[test]
    fn an_absurd_size_is_refused_without_a_panic() {
        let id = BlobId::of(b"x");
        for bytes in [BLOB_BYTES_MAX + 1, u64::MAX - 1, u64::MAX] {
            let outline = Outline { bytes, chunks: vec![[7; 32]; 3] };
            let last = outline.chunk_count() - 1;
            assert!(!outline.is_of(id));
            assert!(!outline.fits(id, last, &vec![0; outline.chunk_len(last)]));
            assert!(!outline.fits(id, 0, &vec![0; CHUNK_BYTES]));
        }
    }

    #[test]
    fn content_over_the_maximum_has_no_outline() {
        let content = content(CHUNK_BYTES + 1);
        assert!(Outline::of_at_most(CHUNK_BYTES as u64 + 1, &content[..]).is_ok());
        let error = Outline::of_at_most(CHUNK_BYTES as u64, &content[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn ids_and_outlines_survive_the_wire_and_read_as_hex() {
        let sent = outlined(&content(2 * CHUNK_BYTES));
        let bytes = postcard::to_stdvec(&sent).unwrap();
        assert_eq!(postcard::from_bytes::<(BlobId, Outline)>(&bytes).unwrap(), sent);
        let hex = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(BlobId::of(b"").to_string(), hex);
    }
}
