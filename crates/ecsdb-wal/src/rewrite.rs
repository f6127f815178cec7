//! Writing once more what may be with the operating system alone.

use ecsdb_io::frame::{HEADER_LEN, frame_len};
use ecsdb_io::{OpenMode, Vfs};

use crate::error::Result;
use crate::format::SegmentHeader;
use crate::reader::{Damage, NoFrame, SegmentReader};
use crate::scan::ScannedSegment;

impl ScannedSegment {
    /// Writes once more what the segment does not say to have been durable, and syncs it: after a sync that failed, in a process that is gone,
    /// the system takes these pages for clean, and another sync would prove nothing (REC-4, WAL-5). Each frame is verified as it is written: what is
    /// read otherwise this time is not made to last. The zeros after the last record are written, too, where the file ends within them: a record is whole
    /// without, but whoever copies it takes them for bytes of the file. O(bytes that are written).
    ///
    /// # Errors
    /// When a frame is not what it was when the segment was scanned, or a file operation fails.
    pub fn rewrite_end(&self, vfs: &dyn Vfs) -> Result<()> {
        let (from, mut link) = self.durable_to;
        if from >= self.end.offset {
            return Ok(());
        }
        let other = || Damage::new(&self.path, from, self.end.last_lsn, "it is not what it was a moment ago");
        let mut reader = SegmentReader::open(vfs, &self.path)?.ok_or_else(other)?;
        if *reader.header() != self.header {
            return Err(other().into());
        }
        let salt = SegmentHeader::frame_salt(&self.header);
        let file = vfs.open(&self.path, OpenMode::ReadWrite)?;
        let (mut at, mut read) = (from, Ok(()));
        file.write_while_made(from, &mut |push| {
            while at < self.end.offset {
                match reader.frame(at, self.end.offset.max(reader.file_len())) {
                    Ok(frame) if frame.header.link == link => {
                        push(&frame.header.encode(salt));
                        push(frame.raw);
                        let len = (HEADER_LEN + frame.raw.len()) as u64;
                        push(&[0; 8][..(frame_len(frame.raw.len() as u64) - len) as usize]);
                        (at, link) = (frame.end, frame.sum);
                    }
                    Ok(_) | Err(NoFrame::Damaged(_)) => read = Err(other().into()),
                    Err(NoFrame::Failed(e)) => read = Err(e),
                }
                if read.is_err() {
                    break;
                }
            }
        })?;
        read?;
        file.sync_data()?;
        Ok(())
    }
}
