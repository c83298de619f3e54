mod emptiness;
mod manifests;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use super::*;
use documents::Format;

/// A folder that is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tandem-manifests-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("d")).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("d")
    }

    /// Writes a file as editors do: writes another file, and renames it.
    fn write(&self, name: &str, text: &str) {
        let temporary = self.path().join(format!(".{name}.tmp"));
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.path().join(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }

    fn start(&self) -> Receiver<Event> {
        let (sender, receiver) = channel(1000);
        let path = self.path();
        tokio::spawn(async move { run(&path, "node-a", sender).await.unwrap() });
        receiver
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  clusterIP: {ip}\n  ports:\n  - port: 80\n---\n"
    )
}

async fn next(events: &mut Receiver<Event>) -> String {
    match timeout(Duration::from_secs(5), events.recv())
        .await
        .expect("no event")
        .expect("source ended")
    {
        Event::Listing(kind) => format!("listing {kind}"),
        Event::Listed(kind) => format!("listed {kind}"),
        Event::Applied(Object::Service(service), _) => {
            format!("applied Service {} {}", service.key, service.cluster_ips[0])
        }
        Event::Applied(object, _) => format!("applied {} {}", object.kind(), object.key()),
        Event::Deleted(kind, key, _) => format!("deleted {kind} {key}"),
        Event::Reach(kind, Reach::Watching) => format!("watching {kind}"),
        Event::Reach(kind, Reach::Lost(_)) => format!("lost {kind}"),
        Event::Unreadable(kind, key, _) => format!("unreadable {kind} {key}"),
        Event::Faulty(file, faults) => format!("faults in {file}: {}", faults.len()),
        Event::Interfaces(_) | Event::Configured(_) | Event::NodeFact(_) | Event::TakeOver => {
            "not of this source".to_owned()
        }
    }
}

/// The objects that the first list applies.
async fn first(events: &mut Receiver<Event>) -> Vec<String> {
    let mut applied = Vec::new();
    loop {
        match next(events).await {
            text if text == "watching ServiceCIDR" => return applied,
            text if text.starts_with("applied") => applied.push(text),
            _ => {}
        }
    }
}

async fn expect(events: &mut Receiver<Event>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(next(events).await, *expected);
    }
}

async fn quiet(events: &mut Receiver<Event>) {
    if let Ok(event) = timeout(Duration::from_millis(100), events.recv()).await {
        panic!("{event:?}");
    }
}

#[tokio::test]
async fn a_folder_is_listed_kind_by_kind() {
    let folder = Folder::new();
    folder.write(
        "a.yaml",
        &(service("web", "10.96.0.1") + "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: web}\n"),
    );
    folder.write(
        "b.json",
        r#"{"apiVersion":"v1","kind":"List","items":[
            {"kind":"Node","apiVersion":"v1","metadata":{"name":"node-a"}},
            {"kind":"Node","apiVersion":"v1","metadata":{"name":"node-b"}},
            {"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"spec":"7"}},
            {"metadata":{"name":"web-1","namespace":"shop","labels":{"kubernetes.io/service-name":"web"}},
             "apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","endpoints":[],"ports":[]}]}
           {"apiVersion":"networking.k8s.io/v1","kind":"ServiceCIDR","metadata":{"name":"kubernetes"},"spec":{"cidrs":["10.96.0.0/12"]}}"#,
    );
    folder.write(
        "c.yml",
        "kind: ServiceList\napiVersion: v1\nitems:\n- metadata: {name: api}\n  spec: {clusterIP: 10.96.0.2}\n",
    );
    folder.write("notes.txt", "not: [a manifest");
    let mut events = folder.start();
    expect(
        &mut events,
        &[
            "listing Service",
            "listing EndpointSlice",
            "listing Node",
            "listing ServiceCIDR",
        ],
    )
    .await;
    expect(
        &mut events,
        &[
            "applied Service default/api 10.96.0.2",
            "applied Service shop/web 10.96.0.1",
        ],
    )
    .await;
    expect(
        &mut events,
        &[
            "applied EndpointSlice shop/web-1",
            "applied Node node-a",
            "applied ServiceCIDR kubernetes",
        ],
    )
    .await;
    expect(
        &mut events,
        &[
            "listed Service",
            "watching Service",
            "listed EndpointSlice",
            "watching EndpointSlice",
        ],
    )
    .await;
    expect(
        &mut events,
        &[
            "listed Node",
            "watching Node",
            "listed ServiceCIDR",
            "watching ServiceCIDR",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_change_tells_only_what_changed_and_at_once() {
    let folder = Folder::new();
    folder.write(
        "a.yaml",
        &(service("web", "10.96.0.1") + &service("api", "10.96.0.2") + &service("old", "10.96.0.3")),
    );
    let mut events = folder.start();
    assert_eq!(first(&mut events).await.len(), 3);
    let began = Instant::now();
    folder.write(
        "a.yaml",
        &(service("web", "10.96.0.1") + &service("api", "10.96.0.9") + &service("new", "10.96.0.4")),
    );
    expect(
        &mut events,
        &[
            "applied Service shop/api 10.96.0.9",
            "applied Service shop/new 10.96.0.4",
            "deleted Service shop/old",
        ],
    )
    .await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    fs::write(
        folder.path().join("a.yaml"),
        service("web", "10.96.0.1").replace("10.96.0.1", "None"),
    )
    .unwrap();
    expect(
        &mut events,
        &[
            "deleted Service shop/web",
            "deleted Service shop/api",
            "deleted Service shop/new",
        ],
    )
    .await;
    quiet(&mut events).await;
}

#[tokio::test]
async fn a_file_that_goes_takes_its_objects_along() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("web", "10.96.0.1"));
    folder.write("b.yaml", &service("api", "10.96.0.2"));
    let mut events = folder.start();
    first(&mut events).await;
    folder.remove("a.yaml");
    expect(&mut events, &["deleted Service shop/web"]).await;
    fs::rename(folder.path().join("b.yaml"), folder.path().join("b.yaml.off")).unwrap();
    expect(&mut events, &["deleted Service shop/api"]).await;
}

#[tokio::test]
async fn a_file_that_does_not_parse_keeps_its_last_good_content() {
    let folder = Folder::new();
    folder.write("a.yaml", &(service("web", "10.96.0.1") + &service("api", "10.96.0.2")));
    folder.write("b.yaml", &service("other", "10.96.0.3"));
    let mut events = folder.start();
    first(&mut events).await;
    for broken in [
        "kind: [",
        "\u{0}",
        &(service("web", "10.96.0.8") + &service("api", "10.96.0.9").replace("80", "http")),
    ] {
        folder.write("a.yaml", broken);
        expect(&mut events, &["faults in a.yaml: 1"]).await;
        quiet(&mut events).await;
    }
    folder.write("b.yaml", &service("other", "10.96.0.4"));
    expect(&mut events, &["applied Service shop/other 10.96.0.4"]).await;
    folder.write("a.yaml", &service("web", "10.96.0.8"));
    expect(
        &mut events,
        &[
            "faults in a.yaml: 0",
            "applied Service shop/web 10.96.0.8",
            "deleted Service shop/api",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_file_with_faults_is_told_of_until_it_is_gone() {
    let folder = Folder::new();
    folder.write("a.yaml", "kind: [");
    let mut events = folder.start();
    expect(
        &mut events,
        &[
            "listing Service",
            "listing EndpointSlice",
            "listing Node",
            "listing ServiceCIDR",
            "faults in a.yaml: 1",
        ],
    )
    .await;
    first(&mut events).await;
    folder.remove("a.yaml");
    expect(&mut events, &["faults in a.yaml: 0"]).await;
    // Reading a pipe would block.
    let pipe = folder.path().join("b.yaml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    symlink("/dev/zero", folder.path().join("c.yaml")).unwrap();
    expect(&mut events, &["faults in c.yaml: 1"]).await;
    quiet(&mut events).await;
}

#[tokio::test]
async fn of_two_files_with_one_object_the_first_by_name_wins() {
    let folder = Folder::new();
    folder.write("b.yaml", &service("web", "10.96.0.2"));
    let mut events = folder.start();
    first(&mut events).await;
    folder.write("a.yaml", &service("web", "10.96.0.1"));
    expect(&mut events, &["applied Service shop/web 10.96.0.1"]).await;
    folder.write("c.yaml", &service("web", "10.96.0.3"));
    quiet(&mut events).await;
    folder.remove("a.yaml");
    expect(&mut events, &["applied Service shop/web 10.96.0.2"]).await;
}

#[tokio::test]
async fn files_on_their_way_are_not_read() {
    let folder = Folder::new();
    folder.write("own.yaml", "");
    let mut events = folder.start();
    first(&mut events).await;
    for name in [".a.yaml.swp", "a.yaml~", "4913", "#a.yaml#"] {
        fs::write(folder.path().join(name), service("web", "10.96.0.1")).unwrap();
    }
    // The file exists, but is not closed yet, so it is incomplete.
    let mut file = fs::File::create(folder.path().join("a.yaml")).unwrap();
    quiet(&mut events).await;
    file.write_all(service("web", "10.96.0.1").as_bytes()).unwrap();
    drop(file);
    expect(&mut events, &["applied Service shop/web 10.96.0.1"]).await;
}

#[tokio::test]
async fn a_config_maps_swap_of_links_is_one_change() {
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name);
    for (version, ip) in [("..1", "10.96.0.1"), ("..2", "10.96.0.2")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("a.yaml"), service("web", ip)).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut events = folder.start();
    assert_eq!(first(&mut events).await, ["applied Service shop/web 10.96.0.1"]);
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    expect(&mut events, &["applied Service shop/web 10.96.0.2"]).await;
    quiet(&mut events).await;
}

#[tokio::test]
async fn a_folder_that_goes_away_is_lost_and_its_content_stays() {
    let folder = Folder::new();
    folder.write("a.yaml", &service("web", "10.96.0.1"));
    let mut events = folder.start();
    first(&mut events).await;
    let away = folder.0.join("away");
    fs::rename(folder.path(), &away).unwrap();
    expect(
        &mut events,
        &["lost Service", "lost EndpointSlice", "lost Node", "lost ServiceCIDR"],
    )
    .await;
    fs::write(away.join("a.yaml"), service("web", "10.96.0.2")).unwrap();
    quiet(&mut events).await;
    fs::rename(&away, folder.path()).unwrap();
    expect(
        &mut events,
        &[
            "watching Service",
            "watching EndpointSlice",
            "watching Node",
            "watching ServiceCIDR",
        ],
    )
    .await;
    expect(&mut events, &["applied Service shop/web 10.96.0.2"]).await;
    folder.write("a.yaml", &service("web", "10.96.0.3"));
    expect(&mut events, &["applied Service shop/web 10.96.0.3"]).await;
}

#[tokio::test]
async fn a_folder_that_is_a_link_is_followed_to_where_it_leads() {
    let folder = Folder::new();
    for (version, ip) in [("v1", "10.96.0.1"), ("v2", "10.96.0.2")] {
        fs::create_dir(folder.0.join(version)).unwrap();
        fs::write(folder.0.join(version).join("a.yaml"), service("web", ip)).unwrap();
    }
    fs::remove_dir(folder.path()).unwrap();
    symlink("v1", folder.path()).unwrap();
    let mut events = folder.start();
    first(&mut events).await;
    symlink("v2", folder.0.join("new")).unwrap();
    fs::rename(folder.0.join("new"), folder.path()).unwrap();
    expect(&mut events, &["applied Service shop/web 10.96.0.2"]).await;
    fs::write(folder.0.join("v2/a.yaml"), service("web", "10.96.0.3")).unwrap();
    expect(&mut events, &["applied Service shop/web 10.96.0.3"]).await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    let (sender, _receiver) = channel(10);
    let error = run(Path::new("/does/not/exist"), "node-a", sender).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "manifests in /does/not/exist: No such file or directory (os error 2)"
    );
}
