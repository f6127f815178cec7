//! The walk through one segment: frame after frame verified, each against the one before, up to the first thing that is no frame of it.

use std::collections::VecDeque;

use ecsdb_id::Lsn;
use ecsdb_io::frame::FrameDamage;

use crate::error::Result;
use crate::format::{CLOSE, CONTINUES, FOLLOWED, GROUP, GroupInfo, PAGE, TRANSACTION};
use crate::options::SegmentEnd;
use crate::reader::{Damage, NoFrame, SegmentReader};

/// A segment walked to its end.
pub(crate) struct Walked {
    pub(crate) end: SegmentEnd,
    /// Where the walk is, and what the next frame links to.
    at: u64,
    link: u32,
    /// Ends of groups that nothing says yet to have been durable.
    ends: VecDeque<(Lsn, u64, u32)>,
    /// Where and why the walk stopped before the end of the file.
    pub(crate) stop: Option<Damage>,
    pub(crate) blank: bool,
    /// It stopped where no frame validates.
    pub(crate) unframed: bool,
    /// The last frame is one of a clean end.
    pub(crate) closed: bool,
    /// It ends where the next segment was begun.
    pub(crate) followed: bool,
    /// The disk would not give what is there.
    pub(crate) unreadable: bool,
    pub(crate) incomplete: Option<Lsn>,
    pub(crate) seen: Lsn,
    pub(crate) last_unix_ns: u64,
    /// Up to here later records say that it was on stable storage, and what the next frame links to.
    pub(crate) durable_to: (u64, u32),
    /// The last transaction of which they say so, in this segment or before it.
    pub(crate) durable: Lsn,
}

/// Gets each transaction as it is verified: its number, the next of its bytes, and whether these are the last of them.
pub(crate) type Take<'a> = &'a mut dyn FnMut(Lsn, &[u8], bool);

/// Walks the frames of a segment up to `limit`, or to the first thing that is no frame of it.
pub(crate) fn walk(reader: &mut SegmentReader, limit: u64, take: Take<'_>) -> Result<Walked> {
    let header = reader.header();
    let last_lsn = Lsn(header.first_lsn.0.saturating_sub(1));
    let start = SegmentEnd { segment: header.sequence, last_lsn, offset: PAGE, link: header.link() };
    let mut walked = Walked::from(reader, start);
    walked.go_on(reader, limit, take)?;
    Ok(walked)
}

impl Walked {
    /// A walk that is to go on from a place in the segment, as if that were its end.
    pub(crate) fn from(reader: &SegmentReader, end: SegmentEnd) -> Walked {
        Walked {
            end,
            at: end.offset,
            link: end.link,
            ends: VecDeque::new(),
            stop: None,
            blank: false,
            unframed: false,
            closed: false,
            followed: false,
            unreadable: false,
            incomplete: None,
            seen: end.last_lsn,
            last_unix_ns: reader.header().created_unix_ns,
            durable_to: (end.offset, end.link),
            durable: Lsn::ZERO,
        }
    }

    /// Walks on from where it stopped.
    pub(crate) fn go_on(&mut self, reader: &mut SegmentReader, limit: u64, take: Take<'_>) -> Result<()> {
        let path = reader.path().to_path_buf();
        (self.stop, self.blank, self.unframed) = (None, false, false);
        while self.at < limit {
            let expected = self.end.last_lsn.next();
            let here = self.at;
            let stop = |what: String| Some(Damage::new(&path, here, expected, what));
            let frame = match reader.frame(here, limit) {
                Ok(frame) => frame,
                Err(NoFrame::Failed(e)) if !e.is_damage() => return Err(e),
                Err(NoFrame::Failed(e)) => {
                    self.unreadable = true;
                    self.stop = stop(format!("it cannot be read: {e}"));
                    break;
                }
                Err(NoFrame::Damaged(damage)) => {
                    // The end of the file is an end like any other, if nothing but zeros is left of it.
                    // But no segment that was made is shorter than its header page.
                    self.blank = matches!(damage, FrameDamage::Blank | FrameDamage::HeaderCut)
                        && reader.file_len() >= PAGE;
                    self.unframed = true;
                    self.stop = stop(damage.to_string());
                    break;
                }
            };
            if frame.header.link != self.link {
                self.stop = stop("the frame does not follow from the one before".into());
                break;
            }
            if frame.header.sequence != expected.0 {
                self.stop = stop(format!("the frame has LSN {}", frame.header.sequence));
                break;
            }
            (self.at, self.link) = (frame.end, frame.sum);
            self.closed = frame.header.kind == CLOSE;
            match frame.header.kind {
                TRANSACTION => {
                    self.seen = expected;
                    let goes_on = frame.header.flags & CONTINUES != 0;
                    take(expected, frame.payload, !goes_on);
                    if goes_on {
                        self.incomplete = Some(expected);
                        continue;
                    }
                    self.incomplete = None;
                    self.end.last_lsn = expected;
                }
                GROUP | CLOSE | FOLLOWED if self.incomplete.is_none() => {
                    let Some(info) = GroupInfo::decode(frame.payload) else {
                        self.stop = stop("a group frame has a wrong length".into());
                        break;
                    };
                    self.last_unix_ns = info.unix_ns;
                    self.durable = self.durable.max(Lsn(info.durable));
                    self.ends.push_back((self.end.last_lsn, here, frame.header.link));
                    while let Some(&(lsn, end, link)) = self.ends.front()
                        && lsn.0 <= info.durable
                    {
                        self.ends.pop_front();
                        self.durable_to = (end, link);
                    }
                    // It is behind the end that the next segment names.
                    self.followed = frame.header.kind == FOLLOWED;
                    if self.followed {
                        break;
                    }
                }
                kind => {
                    self.stop = stop(format!("a frame of kind {kind} does not belong here"));
                    break;
                }
            }
            self.end.offset = self.at;
            self.end.link = self.link;
        }
        Ok(())
    }
}
