//! What is done to files, and what is told of it. No time is measured: what is awaited is a look, and that nothing more is told is seen by
//! what is told next.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::*;

struct Fixture {
    root: PathBuf,
    news: mpsc::Receiver<News>,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fixture {
    /// Watches `watt.yaml` as it was made there.
    async fn of(make: impl FnOnce(&Path)) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        make(&root);
        let (sender, news) = mpsc::channel(16);
        let task = tokio::spawn(watch(root.join("watt.yaml"), sender));
        let mut fixture = Fixture { root, news, task, _folder: folder };
        fixture.sees("it is looked at at first").await;
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Waits until what is there now is what was told.
    async fn sees(&mut self, what: &str) {
        let now = read(&self.path("watt.yaml"));
        let told = async {
            loop {
                match self.news.recv().await {
                    Some(News::Looked(digest)) if digest == now => return,
                    Some(_) => {}
                    None => panic!("the watch has ended"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told).await.expect(what);
    }
}

#[tokio::test]
async fn whatever_way_a_file_is_changed_it_is_seen() {
    let mut files = Fixture::of(|root| fs::write(root.join("watt.yaml"), "a: 1").unwrap()).await;
    let file = files.path("watt.yaml");
    fs::write(&file, "a: 2").unwrap();
    files.sees("it is written in place").await;
    fs::write(files.path("new"), "a: 3").unwrap();
    fs::rename(files.path("new"), &file).unwrap();
    files.sees("another one is put in its place").await;
    fs::remove_file(&file).unwrap();
    files.sees("it is removed").await;
    fs::write(&file, "a: 4").unwrap();
    files.sees("it is there again").await;
    fs::rename(&file, files.path("watt.yaml~")).unwrap();
    fs::write(&file, "a: 5").unwrap();
    files.sees("the old one becomes a copy").await;
    fs::write(files.path(".env"), "A=1").unwrap();
    files.sees("there is an .env").await;
    fs::write(files.path(".env"), "A=2").unwrap();
    files.sees("it is written").await;
    fs::remove_file(files.path(".env")).unwrap();
    files.sees("it is gone").await;
    fs::remove_file(&file).unwrap();
    fs::write(files.path("elsewhere"), "a: 6").unwrap();
    symlink("elsewhere", &file).unwrap();
    files.sees("a link leads elsewhere").await;
    fs::write(files.path("elsewhere"), "a: 7").unwrap();
    files.sees("what it leads to is written").await;
}

#[tokio::test]
async fn a_link_on_the_way_that_leads_elsewhere_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let releases = folder.path().canonicalize().unwrap();
    for release in ["1", "2"] {
        fs::create_dir(releases.join(release)).unwrap();
        fs::write(releases.join(release).join("watt.yaml"), format!("a: {release}")).unwrap();
    }
    let current = releases.join("current");
    symlink("1", &current).unwrap();
    let (through, file) = (current.clone(), "current");
    let mut files = Fixture::of(|root| {
        symlink(through.join("watt.yaml"), root.join("watt.yaml")).unwrap();
    })
    .await;
    symlink("2", releases.join("next")).unwrap();
    fs::rename(releases.join("next"), releases.join(file)).unwrap();
    files.sees("another release").await;
    fs::write(releases.join("2/watt.yaml"), "a: 3").unwrap();
    files.sees("it is written").await;
    fs::rename(releases.join("2"), releases.join("old")).unwrap();
    files.sees("its folder is moved away").await;
    fs::rename(releases.join("old"), releases.join("2")).unwrap();
    files.sees("and back").await;
}

/// The beginning of a file is often one by itself. The clock is the test's: it goes on when everything waits for it.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_left_alone() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("watt.yaml");
    fs::write(&path, "a: 1").unwrap();
    for is_anew in [false, true] {
        let descriptor = instance().unwrap();
        let mut watched = Watched::default();
        let look_now = |watched: &mut Watched| {
            let (places, writers) = (std::mem::take(&mut watched.places), watched.writers);
            let looked = look(Some(descriptor.get_ref()), &path, places, writers);
            watched.places = looked.places;
            looked.digest
        };
        assert_eq!(look_now(&mut watched), Some(read(&path)));
        if is_anew {
            fs::remove_file(&path).unwrap();
        }
        let mut file = fs::File::create(&path).unwrap();
        if is_anew {
            settled(&descriptor, &mut watched).await;
            assert_eq!(look_now(&mut watched), None, "it has only come to be");
        }
        file.write_all(b"a: half").unwrap();
        let early = tokio::time::timeout(10 * PATIENCE, settled(&descriptor, &mut watched)).await;
        assert!(early.is_err(), "somebody writes");
        file.write_all(b" and whole").unwrap();
        drop(file);
        settled(&descriptor, &mut watched).await;
        assert_eq!(look_now(&mut watched), Some(read(&path)));
    }
}

#[test]
fn texts_are_told_apart_by_where_they_are() {
    let sources = |text: &str, dotenv: Option<&str>| Sources {
        text: text.into(),
        dotenv: dotenv.map(|text| (PathBuf::new(), text.to_owned())),
        ..Sources::default()
    };
    let all =
        [sources("ab", None), sources("a", Some("b")), sources("ab", Some("")), sources("", Some("ab"))];
    let digests: std::collections::BTreeSet<u64> = all.iter().map(seen).collect();
    assert_eq!(digests.len(), all.len());
}
