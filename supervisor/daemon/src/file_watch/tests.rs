//! What is done to files, and what is told of it. No time is measured: what is awaited is a look, and that nothing more is told is seen by
//! what is told next.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::*;

/// What is watched in a folder.
fn watched(root: &Path) -> Vec<PathBuf> {
    ["watt.yaml", ".env", "tls/shop.pem"].map(|name| root.join(name)).into()
}

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
        let task = tokio::spawn(watch(watched(&root), sender));
        let mut fixture = Fixture { root, news, task, _folder: folder };
        fixture.sees("it is looked at at first").await;
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Waits until what is there now is what was told.
    async fn sees(&mut self, what: &str) {
        let now = read(&watched(&self.root));
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
    let files = watched(&folder.path().canonicalize().unwrap());
    let path = files[0].clone();
    fs::write(&path, "a: 1").unwrap();
    for is_anew in [false, true] {
        let descriptor = instance().unwrap();
        let mut watched = Watched { places: Places::new(), writers: vec![Writer::None; files.len()] };
        let look_now = |watched: &mut Watched| {
            let (places, writers) = (std::mem::take(&mut watched.places), watched.writers.clone());
            let looked = look(Some(descriptor.get_ref()), &files, places, &writers);
            watched.places = looked.places;
            looked.digest
        };
        assert_eq!(look_now(&mut watched), Some(read(&files)));
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
        assert_eq!(look_now(&mut watched), Some(read(&files)));
    }
}

#[tokio::test]
async fn certificates_are_watched_like_the_file() {
    let make = |root: &Path| {
        fs::write(root.join("watt.yaml"), "a: 1").unwrap();
        fs::create_dir_all(root.join("archive")).unwrap();
        fs::write(root.join("archive/1.pem"), "one").unwrap();
        fs::create_dir(root.join("tls")).unwrap();
        symlink("../archive/1.pem", root.join("tls/shop.pem")).unwrap();
    };
    let mut files = Fixture::of(make).await;
    fs::write(files.path("archive/1.pem"), "two").unwrap();
    files.sees("it is written").await;
    // As certbot does it.
    fs::write(files.path("archive/2.pem"), "three").unwrap();
    symlink("../archive/2.pem", files.path("tls/next")).unwrap();
    fs::rename(files.path("tls/next"), files.path("tls/shop.pem")).unwrap();
    files.sees("the link leads to another one").await;
    fs::remove_dir_all(files.path("tls")).unwrap();
    files.sees("it has gone").await;
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
    let with = |text: &str| Sources {
        certificates: [("/a.pem".into(), text.to_owned().into())].into(),
        ..sources("ab", None)
    };
    let all = all.into_iter().chain([with("a"), with("b")]);
    let digests: Vec<u64> = all.map(|sources| seen(&sources)).collect();
    let different: std::collections::BTreeSet<u64> = digests.iter().copied().collect();
    assert_eq!(digests.len(), different.len());
    // As of versions that knew no certificates.
    assert_eq!(digests[0], digest(&("ab", None::<&String>)));
}
