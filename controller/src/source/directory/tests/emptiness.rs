//! A folder without manifests: one that was emptied, or one that is not the intended folder.

use super::*;

const LOST: [&str; 4] = ["lost Service", "lost EndpointSlice", "lost Node", "lost ServiceCIDR"];
const WATCHING: [&str; 4] = [
    "watching Service",
    "watching EndpointSlice",
    "watching Node",
    "watching ServiceCIDR",
];
const LISTING: [&str; 4] = [
    "listing Service",
    "listing EndpointSlice",
    "listing Node",
    "listing ServiceCIDR",
];

/// A folder that is a link to the first of these two. The first one holds a Service.
fn linked(folders: [&str; 2]) -> Folder {
    let folder = Folder::new();
    for name in folders {
        fs::create_dir(folder.0.join(name)).unwrap();
    }
    fs::write(folder.0.join(folders[0]).join("a.yaml"), service("web", "10.96.0.1")).unwrap();
    fs::remove_dir(folder.path()).unwrap();
    symlink(folders[0], folder.path()).unwrap();
    folder
}

/// Makes the path lead to another folder.
fn lead(folder: &Folder, to: &str) {
    symlink(to, folder.0.join("new")).unwrap();
    fs::rename(folder.0.join("new"), folder.path()).unwrap();
}

#[tokio::test]
async fn a_folder_that_is_emptied_file_by_file_is_empty() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("web", "10.96.0.1"));
    folder.write("b.yaml", &service("api", "10.96.0.2"));
    let mut events = folder.start();
    first(&mut events).await;
    folder.remove("a.yaml");
    expect(&mut events, &["deleted Service shop/web"]).await;
    folder.remove("b.yaml");
    expect(&mut events, &["deleted Service shop/api"]).await;
    quiet(&mut events).await;
    folder.write("c.yaml", &service("new", "10.96.0.3"));
    expect(&mut events, &["applied Service shop/new 10.96.0.3"]).await;
}

#[tokio::test]
async fn an_empty_folder_in_the_place_of_the_one_that_was_read_takes_nothing_away_and_is_told_of() {
    let folder = linked(["full", "empty"]);
    let mut events = folder.start();
    first(&mut events).await;
    lead(&folder, "empty");
    expect(&mut events, &LOST).await;
    quiet(&mut events).await;
    // A file that is no manifest does not count either.
    fs::write(folder.0.join("empty/README"), "").unwrap();
    quiet(&mut events).await;
    lead(&folder, "full");
    expect(&mut events, &WATCHING).await;
    quiet(&mut events).await;
}

#[tokio::test]
async fn a_manifest_without_objects_says_that_nothing_is_what_there_is_to_be() {
    let folder = linked(["full", "empty"]);
    let mut events = folder.start();
    first(&mut events).await;
    lead(&folder, "empty");
    expect(&mut events, &LOST).await;
    fs::write(folder.0.join("empty/none.yaml"), "").unwrap();
    expect(&mut events, &WATCHING).await;
    expect(&mut events, &["deleted Service shop/web"]).await;
}

#[tokio::test]
async fn nothing_is_listed_before_one_manifest_could_be_read() {
    let folder = Folder::new();
    symlink("/does/not/exist", folder.path().join("a.yaml")).unwrap();
    let mut events = folder.start();
    expect(&mut events, &LOST).await;
    expect(&mut events, &["faults in a.yaml: 1"]).await;
    // The file is not closed yet, so it may soon hold objects.
    let mut file = fs::File::create(folder.path().join("b.yaml")).unwrap();
    quiet(&mut events).await;
    file.write_all(service("web", "10.96.0.1").as_bytes()).unwrap();
    drop(file);
    expect(&mut events, &LISTING).await;
    expect(
        &mut events,
        &[
            "applied Service shop/web 10.96.0.1",
            "listed Service",
            "watching Service",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_link_that_leads_nowhere_keeps_what_was_read_through_it() {
    let folder = Folder::new();
    fs::write(folder.0.join("target"), service("web", "10.96.0.1")).unwrap();
    symlink("../target", folder.path().join("a.yaml")).unwrap();
    let mut events = folder.start();
    first(&mut events).await;
    symlink("../elsewhere", folder.path().join("new")).unwrap();
    fs::rename(folder.path().join("new"), folder.path().join("a.yaml")).unwrap();
    expect(&mut events, &["faults in a.yaml: 1"]).await;
    quiet(&mut events).await;
    folder.remove("a.yaml");
    expect(&mut events, &["faults in a.yaml: 0", "deleted Service shop/web"]).await;
}

#[test]
fn a_file_is_gone_only_where_the_path_leads_to_the_folder_that_was_read() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("web", "10.96.0.1"));
    let mut files = Files::new(&folder.path(), Decoder::new("node-a"));
    files.read_all().unwrap();
    assert!(files.is_home() && files.objects().len() == 1);
    // A mount has the same effect: the watched folder gets no event.
    fs::rename(folder.path(), folder.0.join("covered")).unwrap();
    fs::create_dir(folder.path()).unwrap();
    files.read_one("a.yaml".as_ref());
    assert!(!files.is_home() && files.objects().len() == 1);
    let error = files.read_all().unwrap_err().to_string();
    assert!(error.starts_with("another folder than was read before"), "{error}");
    assert_eq!(files.objects().len(), 1);
    folder.write("b.yaml", "");
    files.read_all().unwrap();
    assert!(files.is_home() && files.objects().is_empty());
}
