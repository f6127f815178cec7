//! What is done on a terminal, and nowhere else: progress, and the live view.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, mkfifoat, open, renameat_with};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::fixture::{Fixture, listening};
use crate::signals::{SIGNALS, large, send};

/// A command on a terminal of its own, which is the one that its signals come from.
struct Terminal {
    /// The window, until it is closed.
    window: Option<File>,
    side: OwnedFd,
    shown: Vec<u8>,
    child: Child,
    before: Termios,
}

impl Terminal {
    fn run(fixture: &Fixture, arguments: &[&str], with_errors: bool) -> Terminal {
        Terminal::run_with(fixture, "", arguments, with_errors)
    }

    /// With a signal that is ignored.
    fn run_with(fixture: &Fixture, ignored: &str, arguments: &[&str], with_errors: bool) -> Terminal {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let side = open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        resize(&terminal, 30, 90);
        let before = tcgetattr(&side).unwrap();
        let stdio = || Stdio::from(side.try_clone().unwrap());
        let mut command = listening("setsid");
        let script = if ignored.is_empty() { "" } else { &format!("trap '' {ignored}; ") };
        let script = format!("{script}exec \"$0\" \"$@\"");
        command.args(["--ctty", "sh", "-c", &script, env!("CARGO_BIN_EXE_ecsdb")]).args(arguments);
        command.current_dir(fixture.dir.path());
        command.env("TERM", "xterm-256color").env("TZ", "UTC").env_remove("NO_COLOR");
        command.stdin(stdio()).stdout(stdio()).stderr(if with_errors { stdio() } else { Stdio::piped() });
        let child = command.spawn().unwrap();
        Terminal { window: Some(terminal.into()), side, shown: Vec::new(), child, before }
    }

    /// What is shown by now, a little later.
    fn text(&mut self) -> String {
        let Some(window) = &mut self.window else {
            std::thread::sleep(Duration::from_millis(10));
            return String::new();
        };
        let soon = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let mut bytes = [0; 4096];
        while poll(&mut [PollFd::new(&*window, PollFlags::IN)], Some(&soon)).is_ok_and(|ready| ready > 0) {
            let Ok(n @ 1..) = window.read(&mut bytes) else { break };
            self.shown.extend(&bytes[..n]);
        }
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Waits until something is shown behind what was shown up to `from`. Gives how much is shown then.
    fn wait(&mut self, what: &str, from: usize) -> usize {
        let started = Instant::now();
        loop {
            let text = self.text();
            if text.get(from..).is_some_and(|text| text.contains(what)) {
                return text.len();
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{what:?} is not shown: {text:?}");
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.window.as_mut().unwrap().write_all(keys).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let text = self.text();
            assert!(started.elapsed() < Duration::from_secs(30), "it goes on: {text:?}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

/// What a terminal is told to take away: its last line.
const CLEARED: &str = "\u{1b}[2K";

/// What a terminal is told to enter and to leave again.
const OTHER_SCREEN: [&str; 2] = ["\u{1b}[?1049h", "\u{1b}[?1049l"];

#[test]
fn a_live_view_follows_its_terminal_and_gives_it_back_however_it_ends() {
    let fixture = Fixture::new();
    let quit = |terminal: &mut Terminal| terminal.press(b"q");
    let escape = |terminal: &mut Terminal| terminal.press(b"\x1b");
    let ctrl_c = |terminal: &mut Terminal| terminal.press(b"\x03");
    let by = |number: usize| move |terminal: &mut Terminal| send(&terminal.child, SIGNALS[number].0);
    // A database that goes away is an error, which is seen.
    let gone = |_: &mut Terminal| std::fs::rename(fixture.path("world"), fixture.path("gone")).unwrap();
    type End<'a> = &'a dyn Fn(&mut Terminal);
    let ends: [(End<'_>, i32); 7] =
        [(&quit, 0), (&escape, 0), (&ctrl_c, 130), (&by(0), 130), (&by(1), 143), (&by(2), 129), (&gone, 3)];
    for (i, (end, code)) in ends.into_iter().enumerate() {
        let mut terminal = Terminal::run(&fixture, &["info", "world", "--watch"], true);
        // The last line, and what is drawn there.
        terminal.wait("\u{1b}[30;1H", 0);
        let seen = terminal.wait("quits", 0);
        assert!(terminal.text().contains(OTHER_SCREEN[0]) && terminal.text().contains("entities"));
        // That of the state, and the first and the last that can be gone back to.
        assert_eq!(terminal.text()[..seen].matches("+00:00").count(), 3, "whole times");
        assert_ne!(
            tcgetattr(&terminal.side).unwrap().local_modes,
            terminal.before.local_modes,
            "keys come at once"
        );
        // The system tells it of another size.
        resize(terminal.window.as_ref().unwrap(), 40, 120);
        let seen = terminal.wait("\u{1b}[40;1H", seen);
        end(&mut terminal);
        let status = terminal.end();
        let text = terminal.text();
        assert_eq!(status.code(), Some(code), "{i}: {text:?}");
        terminal.wait(OTHER_SCREEN[1], 0);
        terminal.wait("\u{1b}[?25h", seen);
        let after = tcgetattr(&terminal.side).unwrap();
        let modes = |of: &Termios| (of.local_modes, of.input_modes, of.output_modes, of.control_modes);
        assert_eq!(modes(&after), modes(&terminal.before), "{i}");
        // What is said is said where it stays to be seen.
        let left = terminal.text().rfind(OTHER_SCREEN[1]).unwrap();
        let said = terminal.text()[left..].to_string();
        let wanted = if code == 3 { "there is no database in" } else { "interrupted" };
        assert_eq!(said.contains(wanted), code != 0, "{i}: {said:?}");
    }
}

/// Loading it shows how far it is on the same screen.
#[test]
fn a_live_view_of_another_database_is_drawn_from_the_start() {
    const BEGUN: &str = "\u{1b}[2J";
    let fixture = Fixture::new();
    let db = fixture.open("other");
    db.write(|tx| Ok(tx.spawn_batch([(); 100]).len())).unwrap();
    db.close().unwrap();
    let mut terminal = Terminal::run(&fixture, &["info", "world", "--watch"], true);
    let seen = terminal.wait("quits", 0);
    let [one, other] = ["world", "other"].map(|name| fixture.path(name));
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    // Of a line that stays as it was nothing is drawn, unless the screen is.
    terminal.wait("quits", seen);
    let shown = &terminal.text()[seen..];
    let at = |what: &str| shown.find(what).unwrap_or_else(|| panic!("{what:?}: {shown:?}"));
    assert!(at(BEGUN) < at("\u{1b}[1;1H104"), "{shown:?}");
    terminal.press(b"q");
    assert_eq!(terminal.end().code(), Some(0));
}

/// Closing its window is the signal, too; with that ignored it has nowhere to draw. It does not go on for nobody.
#[test]
fn a_live_view_ends_with_its_terminal() {
    let fixture = Fixture::new();
    for (ignored, code) in [("", 129), ("HUP", 1)] {
        let mut terminal = Terminal::run_with(&fixture, ignored, &["info", "world", "--watch"], true);
        terminal.wait("quits", 0);
        let Terminal { window, side, .. } = &mut terminal;
        // Whoever has the other side holds nothing any more.
        *side = File::open("/dev/null").unwrap().into();
        drop(window.take());
        assert_eq!(terminal.end().code(), Some(code), "{ignored}");
    }
}

#[test]
fn ctrl_c_on_a_terminal_is_the_signal() {
    let fixture = Fixture::new();
    let mut terminal = Terminal::run(&fixture, &["wal", "tail", "world", "--follow"], true);
    terminal.wait("game.bag", 0);
    terminal.press(b"\x03");
    assert_eq!(terminal.end().code(), Some(130));
    terminal.wait("interrupted", 0);
}

/// What takes long says what it does, and how much of it is left.
#[test]
fn each_long_command_shows_how_far_it_is() {
    let fixture = large(100_000);
    for (command, what) in [
        (&["dump", "world", "--output", "dumped"][..], "%  writing"),
        (&["load", "loaded", "dumped"], "%  reading"),
        (&["load", "again", "dumped"], "%  writing"),
        (&["export", "world", "--parquet", "tables"], "%  writing"),
        (&["backup", "world", "copy"], "%  writing"),
        (&["verify", "world"], "the log"),
        (&["hash", "world"], "the log"),
        (&["compact", "world"], "% "),
    ] {
        let mut terminal = Terminal::run(&fixture, command, true);
        let status = terminal.end();
        let text = terminal.text();
        // What is taken away again is the bar, and nothing of what is said of the end.
        let (bar, _) = text.rsplit_once(CLEARED).unwrap_or_default();
        assert!(status.success() && bar.contains(what), "{command:?}: {text:?}");
    }
}

/// Whether a command is told, or only reads and is ended: what it says does not stand behind its bar.
#[test]
fn an_interruption_takes_away_what_is_shown() {
    let fixture = large(100_000);
    let dumped = fixture.ok(&["dump", "world"]);
    let pipe = fixture.path("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    std::fs::write(fixture.path("world/ecsdb.toml"), "snapshot.bytes_per_second_max = \"100 KiB\"\n")
        .unwrap();
    for (command, what) in
        [(&["load", "new", "pipe"], "%  reading"), (&["backup", "world", "new"], "%  writing")]
    {
        let mut terminal = Terminal::run(&fixture, command, true);
        // It has no end, as long as somebody may write more.
        let mut writer = (command[0] == "load").then(|| File::options().write(true).open(&pipe).unwrap());
        if let Some(writer) = &mut writer {
            writer.write_all(&dumped.as_bytes()[..dumped.len() / 2]).unwrap();
        }
        terminal.wait(what, 0);
        send(&terminal.child, "-INT");
        assert_eq!(terminal.end().code(), Some(130));
        terminal.wait("interrupted", 0);
        let text = terminal.text();
        assert_eq!(text.rsplit(CLEARED).next(), Some("interrupted\r\n"), "{command:?}: {text:?}");
    }
}

/// Which file it is written into is told by nothing else.
#[test]
fn progress_is_shown_on_standard_error_and_on_a_terminal_alone() {
    let fixture = large(100_000);
    std::fs::write(fixture.path("world/ecsdb.toml"), "snapshot.bytes_per_second_max = \"300 KiB\"\n")
        .unwrap();
    let remove = || std::fs::remove_dir_all(fixture.path("new")).unwrap();
    let command = &["backup", "world", "new"];
    let mut terminal = Terminal::run(&fixture, command, true);
    let status = terminal.end();
    let text = terminal.text();
    assert!(status.success() && text.contains('%') && text.contains("about"), "{text:?}");
    // What is left is what is said of it.
    let last = text.rsplit(CLEARED).next().unwrap();
    assert!(last.contains("new is the database") && !last.contains('%'), "{last:?}");
    remove();
    let mut terminal = Terminal::run(&fixture, command, false);
    let (status, mut error) = (terminal.end(), String::new());
    terminal.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    let text = terminal.text();
    assert!(
        status.success() && error.is_empty() && !text.contains('%') && !text.contains('\u{1b}'),
        "{text:?} {error}"
    );
    assert!(Path::new(&fixture.path("new")).exists());
}
