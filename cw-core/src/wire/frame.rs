//! Frames in a stream of bytes.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// Longest arguments or result of a task, in bytes, unless its job says otherwise.
pub const PAYLOAD_BYTES_DEFAULT: usize = 64 << 20;

/// The most that a job may say, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 2 << 30;

/// Longest frame: the greatest payload and a head. A longer one is refused by its length, before any of it is kept.
pub const FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + (64 << 10);

/// A frame announced more than [`FRAME_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes, over the limit of {FRAME_BYTES_MAX}")]
pub struct FrameTooLong(pub usize);

/// Takes the next whole frame's contents off `buffer`; `None` until all of it is there.
///
/// Room for the rest of a long frame is made only as its bytes arrive, by whoever reads into `buffer`. A frame longer
/// than the default payload takes its memory with it, so that no reader keeps gigabytes for the next one.
///
/// # Errors
/// [`FrameTooLong`]: the stream cannot be read any further.
pub fn next_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameTooLong> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameTooLong(length));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    let frame = buffer.split_to(length).freeze();
    if length > PAYLOAD_BYTES_DEFAULT {
        *buffer = BytesMut::from(&buffer[..]);
    }
    Ok(Some(frame))
}

/// Takes all whole frames off `buffer` at once; `None` until the first is there. As [`next_frame`] otherwise.
///
/// # Errors
/// [`FrameTooLong`]: the stream cannot be read any further, once what came before was.
pub fn whole_frames(buffer: &mut BytesMut) -> Result<Option<Frames>, FrameTooLong> {
    let mut end = 0;
    while let Some(length) = buffer[end..].first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX && end == 0 {
            return Err(FrameTooLong(length));
        }
        if buffer.len() - end < 4 + length {
            break;
        }
        end += 4 + length;
    }
    if end == 0 {
        return Ok(None);
    }
    let frames = buffer.split_to(end).freeze();
    if end > PAYLOAD_BYTES_DEFAULT {
        *buffer = BytesMut::from(&buffer[..]);
    }
    Ok(Some(Frames { bytes: frames, at: 0 }))
}

/// Whole frames, one behind the other.
#[derive(Debug)]
pub struct Frames {
    bytes: Bytes,
    at: usize,
}

impl Frames {
    /// What the frames lie in.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Iterator for Frames {
    /// Where the contents of a frame are.
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let length = u32::from_le_bytes(*self.bytes[self.at..].first_chunk::<4>()?) as usize;
        let start = self.at + 4;
        self.at = start + length;
        Some(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let stream = [&[3, 0, 0, 0, 1, 2, 3][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 9]].concat();
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in stream {
            buffer.extend_from_slice(&[byte]);
            while let Some(frame) = next_frame(&mut buffer).unwrap() {
                frames.push(frame.to_vec());
            }
        }
        assert_eq!(frames, [vec![1, 2, 3], vec![], vec![9]]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn whole_frames_come_out_at_once_and_the_rest_stays() {
        let stream = [&[3, 0, 0, 0, 1, 2, 3][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 9], &[2, 0, 0, 0, 7]].concat();
        let mut buffer = BytesMut::from(&stream[..]);
        let mut frames = whole_frames(&mut buffer).unwrap().unwrap();
        let bytes = frames.bytes().clone();
        let contents: Vec<&[u8]> = frames.by_ref().map(|frame| &bytes[frame]).collect();
        assert_eq!(contents, [&[1, 2, 3][..], &[], &[9]]);
        assert_eq!(buffer[..], [2, 0, 0, 0, 7]);
        assert!(whole_frames(&mut buffer).unwrap().is_none());
        buffer.extend_from_slice(&[8]);
        buffer.extend_from_slice(&u32::MAX.to_le_bytes());
        let mut frames = whole_frames(&mut buffer).unwrap().unwrap();
        assert_eq!((frames.next(), frames.next()), (Some(4..6), None));
        assert_eq!(whole_frames(&mut buffer).unwrap_err(), FrameTooLong(u32::MAX as usize));
    }

    #[test]
    fn a_frame_over_the_default_leaves_no_memory_behind() {
        let length = PAYLOAD_BYTES_DEFAULT + 1;
        let mut buffer = BytesMut::zeroed(4 + length);
        buffer[..4].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
        buffer.extend_from_slice(&[1, 0, 0, 0, 9]);
        assert_eq!(next_frame(&mut buffer).unwrap().unwrap().len(), length);
        buffer.reserve(64);
        assert!(buffer.capacity() < 1 << 10, "{}", buffer.capacity());
        assert_eq!(next_frame(&mut buffer).unwrap().unwrap(), [9][..]);
    }

    #[test]
    fn the_greatest_payload_fits_a_frame_and_a_frame_its_length() {
        let length = u32::try_from(FRAME_BYTES_MAX).unwrap();
        const { assert!(FRAME_BYTES_MAX > PAYLOAD_BYTES_MAX) };
        let mut buffer = BytesMut::from(&length.to_le_bytes()[..]);
        assert_eq!(next_frame(&mut buffer), Ok(None));
        assert_eq!(buffer.len(), 4, "no room is made for what is only announced");
    }

    #[test]
    fn a_length_over_the_limit_is_refused_at_once() {
        let mut buffer = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert_eq!(next_frame(&mut buffer), Err(FrameTooLong(u32::MAX as usize)));
    }
}
