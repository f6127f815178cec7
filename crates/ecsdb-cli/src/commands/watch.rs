//! `ecsdb info --watch`: what the files say, each second. Nothing is loaded twice: what was written since is applied to what was there.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, stdout};
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ecsdb::Lsn;
use indicatif::HumanBytes;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Position};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table};
use ratatui::{DefaultTerminal, Frame};

use super::followed::{Followed, Found};
use super::info::Info;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Output, many};
use crate::place::Settled;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a signal may wait to be seen.
const SIGNAL_EVERY: Duration = Duration::from_millis(100);
/// Seconds of the past that are drawn.
const KEPT: usize = 240;

struct Watch {
    info: Info,
    followed: Followed,
    /// Transactions in each of the last seconds, and bytes of their change sets in the last one.
    rates: VecDeque<u64>,
    bytes: u64,
    looked: Instant,
}

impl Watch {
    fn look(settled: &Settled) -> Result<Watch> {
        let mut followed = Followed::default();
        let info = settled.look(|look| {
            followed.find(look, &look.history()?, None);
            Info::of(look)
        })?;
        Ok(Watch { info, followed, rates: VecDeque::new(), bytes: 0, looked: Instant::now() })
    }

    /// Goes on to what is there now. True where that was loaded anew.
    fn again(&mut self, settled: &Settled) -> Result<bool> {
        let (mut transactions, mut bytes, mut anew) = (0, 0, false);
        let (info, followed) = (&mut self.info, &mut self.followed);
        settled.look(|look| {
            let history = look.history()?;
            let from = info.seen.world.lsn();
            let newest = look.manifest.snapshots.last().map_or(0, |entry| entry.lsn);
            let first = history.range().map_or(Lsn::ZERO, |((first, _), _)| first);
            match followed.find(look, &history, Some(from)) {
                Found::Same if first <= from => {}
                Found::Earlier => return Ok(()),
                // Another database, an earlier state of this one, or what lies between is gone: all over again.
                _ => {
                    *info = Info::of(look)?;
                    followed.goes_over(look);
                    anew = true;
                    return Ok(());
                }
            }
            let mut failed = None;
            history.transactions(from, Lsn::MAX, |transaction, change_set| {
                if let Err(e) = info.seen.world.apply(transaction.lsn, change_set) {
                    failed = Some(e);
                    return ControlFlow::Break(());
                }
                transactions += 1;
                bytes += change_set.len() as u64;
                ControlFlow::Continue(())
            })?;
            if let Some(e) = failed {
                return Err(e.into());
            }
            info.seen.world.advance_lsn(Lsn(newest));
            (info.seen.unix_ns, info.seen.of_snapshot) = look.when(&history, info.seen.world.lsn());
            info.seen.view = info.seen.world.view();
            info.refresh(look, &history)
        })?;
        self.rates.push_back(transactions);
        if self.rates.len() > KEPT {
            self.rates.pop_front();
        }
        self.bytes = bytes;
        self.looked = Instant::now();
        Ok(anew)
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let rows = self.info.rows();
        let [head, table, rates, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(rows.len() as u16 + 2),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let title = many(self.info.seen.view.len() as u64, "entity", "entities");
        frame.render_widget(Paragraph::new(Line::from(title)), head);
        let widths = [Constraint::Length(16), Constraint::Min(20)];
        let lines =
            Table::new(rows.into_iter().map(Row::new), widths).block(Block::bordered().title("database"));
        frame.render_widget(lines, table);
        let now = self.rates.back().copied().unwrap_or(0);
        let title = format!("transactions a second: {now}, {} a second", HumanBytes(self.bytes));
        let width = usize::from(rates.width.saturating_sub(2));
        let skipped = self.rates.len().saturating_sub(width);
        let data: Vec<u64> = self.rates.iter().skip(skipped).copied().collect();
        frame.render_widget(Sparkline::default().data(data).block(Block::bordered().title(title)), rates);
        frame.render_widget(Paragraph::new("q quits"), foot);
    }
}

pub(crate) fn run(settled: &Settled, out: &mut Output) -> Result<()> {
    let mut watch = Watch::look(settled)?;
    if out.is_json() {
        loop {
            out.json(&watch.info.json())?;
            out.flush()?;
            thread::sleep(LOOK_EVERY);
            watch.again(settled)?;
        }
    }
    if !stdout().is_terminal() {
        return Err(
            Failure::Usage("a live view needs a terminal; use --json for a line each second".into()).into()
        );
    }
    // The terminal is given back as it was, whatever ends the view.
    interrupt::hold();
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, &mut watch, settled);
    let restored = ratatui::try_restore();
    if terminal.show_cursor().is_err() {
        // It would try that once more, and panic where it cannot even say so.
        std::mem::forget(terminal);
    }
    // A terminal that is gone takes neither, and says so with a signal, which may come a moment later.
    if restored.is_err() {
        thread::sleep(SIGNAL_EVERY);
    }
    interrupt::check()?;
    shown?;
    Ok(restored?)
}

/// What happens on the terminal. Waiting for it does not end once the terminal is gone, so that nobody waits for whoever waits.
fn events() -> io::Result<Receiver<io::Result<Event>>> {
    let (send, events) = mpsc::channel();
    thread::Builder::new().spawn(move || while send.send(event::read()).is_ok() {})?;
    Ok(events)
}

/// Clears the screen, of which all is drawn then. `Terminal::clear` asks the terminal where its cursor is, and whoever waits for keys would get the answer.
fn anew(terminal: &mut DefaultTerminal) -> Result<()> {
    let size = terminal.size()?;
    Ok(terminal.resize((Position::ORIGIN, size).into())?)
}

fn show(terminal: &mut DefaultTerminal, watch: &mut Watch, settled: &Settled) -> Result<()> {
    terminal.draw(|frame| watch.draw(frame))?;
    let events = events()?;
    loop {
        interrupt::check()?;
        let left = LOOK_EVERY.saturating_sub(watch.looked.elapsed());
        let event = match events.recv_timeout(left.min(SIGNAL_EVERY)) {
            Ok(event) => Some(event?),
            Err(RecvTimeoutError::Timeout) => None,
            Err(e @ RecvTimeoutError::Disconnected) => return Err(e).context("waiting for keys"),
        };
        match event {
            Some(Event::Key(key)) => {
                // In its raw mode the terminal sends no signal.
                let interrupted =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if interrupted {
                    return Err(Failure::Interrupted.into());
                }
                if matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(());
                }
            }
            // Another size, say.
            Some(_) => {
                terminal.draw(|frame| watch.draw(frame))?;
            }
            None => {}
        }
        if watch.looked.elapsed() >= LOOK_EVERY {
            if watch.again(settled)? {
                // How far the loading was, and what was doubtful, stands on the screen.
                anew(terminal)?;
            }
            terminal.draw(|frame| watch.draw(frame))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    #[test]
    fn a_live_view_shows_what_others_write() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("world");
        let db = ecsdb::Database::open(&dir).unwrap();
        let settled = &crate::place::Place::of(dir).settle().unwrap();
        db.write(|tx| Ok(tx.spawn(()))).unwrap();
        let mut watch = Watch::look(settled).unwrap();
        let mut terminal = Terminal::new(TestBackend::new(90, 30)).unwrap();
        let mut shown = |watch: &Watch| {
            terminal.draw(|frame| watch.draw(frame)).unwrap();
            terminal.backend().to_string()
        };
        assert!(shown(&watch).contains("1 entity"));
        for _ in 0..4 {
            db.write(|tx| Ok(tx.spawn(()))).unwrap();
        }
        watch.again(settled).unwrap();
        let json = watch.info.json();
        assert_eq!(json["state"]["lsn"], json["moments"]["last"]["lsn"]);
        let text = shown(&watch);
        assert!(text.contains("5 entities") && text.contains("transactions a second: 4"), "{text}");
        db.snapshot().unwrap().wait().unwrap();
        watch.again(settled).unwrap();
        let text = shown(&watch);
        assert!(text.contains("the newest at LSN 5") && text.contains("transactions a second: 0"), "{text}");
        db.close().unwrap();
    }

    /// Whatever comes before whatever, from a database without any transaction on.
    #[test]
    fn a_live_view_says_what_a_first_look_says() {
        let dir = tempfile::tempdir().unwrap();
        let seed =
            std::env::var("ECSDB_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        let mut random = fastrand::Rng::with_seed(seed);
        for case in 0..std::env::var("ECSDB_CASES").map_or(6, |cases| cases.parse().unwrap()) {
            let dir = dir.path().join(format!("world-{case}"));
            let open = || ecsdb::Database::builder(dir.clone()).config(|it| it.manual()).open().unwrap();
            let mut db = open();
            let settled = &crate::place::Place::of(dir.clone()).settle().unwrap();
            let mut watch = Watch::look(settled).unwrap();
            assert_eq!(watch.info.rows()[0][1], "as of LSN 0, before the first transaction");
            let mut steps = Vec::new();
            for _ in 0..random.usize(1..6) {
                let step = random.u32(..5);
                steps.push(step);
                match step {
                    0 => drop(db.write(|tx| Ok(tx.spawn(()))).unwrap()),
                    1 => drop(db.snapshot().unwrap().wait().unwrap()),
                    2 => drop(db.compact().unwrap().wait().unwrap()),
                    3 => {
                        db.close().unwrap();
                        db = open();
                    }
                    _ => {
                        watch.again(settled).unwrap();
                    }
                }
            }
            watch.again(settled).unwrap();
            let first = settled.look(Info::of).unwrap();
            assert_eq!(watch.info.json(), first.json(), "seed {seed}, case {case}: {steps:?}");
            assert_eq!(watch.info.rows(), first.rows(), "seed {seed}, case {case}: {steps:?}");
        }
    }

    #[test]
    fn a_live_view_goes_over_to_another_database_once_that_can_be_seen() {
        let dir = tempfile::tempdir().unwrap();
        let [world, other, away] = ["world", "other", "away"].map(|name| dir.path().join(name));
        let db = ecsdb::Database::open(&world).unwrap();
        db.write(|tx| Ok(tx.spawn_batch(vec![(); 8]).len())).unwrap();
        // A copy is a database of its own, and has no log from which its snapshot could be made.
        db.backup_to(&other).unwrap().wait().unwrap();
        db.write(|tx| Ok(tx.spawn(()))).unwrap();
        db.close().unwrap();
        let settled = &crate::place::Place::of(world.clone()).settle().unwrap();
        let mut watch = Watch::look(settled).unwrap();
        assert!(!watch.again(settled).unwrap());
        std::fs::remove_dir_all(&world).unwrap();
        std::fs::rename(other, &world).unwrap();
        let snapshots = settled.layout().unwrap().snapshot_dir().to_path_buf();
        let snapshot = std::fs::read_dir(snapshots).unwrap().map(|entry| entry.unwrap().path());
        let snapshot = snapshot.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        std::fs::rename(&snapshot, &away).unwrap();
        for _ in 0..2 {
            watch.again(settled).unwrap_err();
        }
        std::fs::rename(away, snapshot).unwrap();
        assert!(watch.again(settled).unwrap());
        assert_eq!(watch.info.seen.view.len(), 8);
        assert!(!watch.again(settled).unwrap());
    }
}
