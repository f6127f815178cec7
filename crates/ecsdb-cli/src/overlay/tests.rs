//! The overlay beside a real disk.

use super::*;

/// All names below a directory, and what is in them.
fn all(vfs: &dyn Vfs, dir: &Path, at: &str, into: &mut Vec<(String, EntryKind, Vec<u8>)>) {
    for entry in vfs.read_dir(dir).unwrap() {
        let (path, name) = (dir.join(&entry.name), format!("{at}/{}", entry.name));
        let mut bytes = vec![0; entry.len as usize];
        if entry.kind == EntryKind::File {
            assert_eq!(vfs.file_len(&path).unwrap(), Some(entry.len));
            vfs.open(&path, OpenMode::Read).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        }
        into.push((name.clone(), entry.kind, bytes));
        if entry.kind == EntryKind::Dir {
            all(vfs, &path, &name, into);
        }
    }
}

fn told<T>(done: Result<T>) -> Result<T, (FileOp, ErrorKind)> {
    done.map_err(|e| (e.op, e.cause.kind()))
}

fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("d1")).unwrap();
    fs::write(dir.join("a"), "first").unwrap();
    fs::write(dir.join("d1/b"), "second").unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("a", dir.join("c")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.join("d1/a")).unwrap();
    }
}

/// Whatever is done, it is the same as on a disk, and the disk stays as it was.
#[test]
fn it_is_as_the_disk_is_and_changes_nothing() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut done = 0;
    for case in 0..400 {
        let (real, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(real.path());
        fill(own.path());
        let overlay = Overlay::new().unwrap();
        let sides: [(&dyn Vfs, &Path); 2] = [(&Disk, real.path()), (&overlay, own.path())];
        let before = {
            let mut before = Vec::new();
            all(&Disk, own.path(), "", &mut before);
            before
        };
        let mut handles: Vec<[Arc<dyn VfsFile>; 2]> = Vec::new();
        for step in 0..random.usize(1..20) {
            let name = |random: &mut fastrand::Rng| {
                let dir = ["", "", "d1/", "d2/", "d2/d3/"][random.usize(..5)];
                format!("{dir}{}", ["a", "b", "c"][random.usize(..3)])
            };
            let (one, other) = (name(&mut random), name(&mut random));
            let what = random.u8(..9);
            let context = format!("{case} {step}: {what} {one} {other}");
            match what {
                0 | 1 => {
                    let mode = if random.bool() { OpenMode::Read } else { OpenMode::ReadWrite };
                    let is_new = what == 0;
                    let opened = sides.map(|(vfs, dir)| {
                        told(if is_new {
                            vfs.create(&dir.join(&one))
                        } else {
                            vfs.open(&dir.join(&one), mode)
                        })
                    });
                    match opened {
                        [Ok(a), Ok(b)] => {
                            done += 1;
                            if is_new || mode == OpenMode::ReadWrite {
                                handles.push([a, b]);
                            }
                        }
                        [Err(a), Err(b)] => assert_eq!(a, b, "{context}"),
                        both => panic!("{context}: {both:?}"),
                    }
                }
                // Of all there is, files are renamed.
                2 if real.path().join(&one).is_dir() => {}
                2 => {
                    let [a, b] = sides.map(|(vfs, dir)| told(vfs.rename(&dir.join(&one), &dir.join(&other))));
                    assert_eq!(a.is_ok(), b.is_ok(), "{context}: {a:?} {b:?}");
                }
                3 => {
                    let [a, b] = sides.map(|(vfs, dir)| told(vfs.remove(&dir.join(&one))));
                    assert_eq!(a, b, "{context}");
                }
                4 => {
                    let dir_name = ["d1", "d2", "d2/d3", "a/d4"][random.usize(..4)];
                    let [a, b] = sides.map(|(vfs, dir)| told(vfs.create_dir_all(&dir.join(dir_name))));
                    assert_eq!(a.is_ok(), b.is_ok(), "{context} {dir_name}: {a:?} {b:?}");
                }
                // What a link leads to is looked for on the disk: it is nothing of ours.
                5 if real.path().join(&one).is_symlink() => {}
                5 => {
                    let [a, b] =
                        sides.map(|(vfs, dir)| vfs.file_len(&dir.join(&one)).ok().flatten().is_some());
                    assert_eq!(a, b, "{context}");
                }
                _ if handles.is_empty() => {}
                _ => {
                    let (at, len) = (random.u64(..9), random.u64(..12));
                    for file in &handles[random.usize(..handles.len())] {
                        match what {
                            6 => file.set_len(len).unwrap(),
                            7 => file.write_all_at(&mut [IoSlice::new(b"third")], at).unwrap(),
                            _ => file.sync_data().unwrap(),
                        }
                    }
                }
            }
            // What is open is the file that it was, whatever has become of its name.
            for [a, b] in &handles {
                let read = |file: &Arc<dyn VfsFile>| {
                    let mut bytes = vec![0; file.len().unwrap() as usize];
                    file.read_exact_at(&mut bytes, 0).unwrap();
                    bytes
                };
                assert_eq!(read(a), read(b), "{context}");
            }
            let [a, b] = sides.map(|(vfs, dir)| {
                let mut found = Vec::new();
                all(vfs, dir, "", &mut found);
                found
            });
            assert_eq!(a, b, "{context}");
        }
        let mut after = Vec::new();
        all(&Disk, own.path(), "", &mut after);
        assert_eq!(before, after);
    }
    assert!(done > 200, "{done}");
}
