//! Files that change while the agent runs.

use std::os::unix::fs::symlink;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;

fn live(scratch: &Scratch) -> Live {
    let sources = scratch.sources(&[]).unwrap();
    let loaded = sources.load().unwrap();
    Live::new(sources, loaded)
}

#[test]
fn changes_are_told_apart_by_what_can_change_live() {
    let before = settings("clusterCIDR: 10.0.0.0/8\nhostnameOverride: a\n").0;
    let after = settings(
        "clusterCIDR: 10.0.0.0/9\nhostnameOverride: b\nnodePortAddresses: [10.0.0.0/8]\nportRange: 1-2\nconntrack: {min: 7}\n",
    )
    .0;
    assert_eq!(Settings::changes(&before, &before), Changes::default());
    assert_eq!(
        Settings::changes(&before, &after),
        Changes {
            live: vec![
                r#"clusterCIDR: "10.0.0.0/8" becomes "10.0.0.0/9""#.to_owned(),
                r#"nodePortAddresses: "[\"primary\"]" becomes "[\"10.0.0.0/8\"]""#.to_owned(),
                r#"conntrack.min: "131072" becomes "7""#.to_owned(),
            ],
            needs_restart: vec![r#"hostnameOverride: "a" becomes "b""#.to_owned()],
        }
    );
}

#[test]
fn a_broken_file_is_told_of_once_and_the_settings_in_use_stay() {
    let scratch = Scratch::new();
    scratch.write(&format!("{HEAD}clusterCIDR: 10.0.0.0/8\n"));
    let mut live = live(&scratch);
    let before = live.settings();
    scratch.write(&format!("{HEAD}clusterCIDR: x\n"));
    let place = scratch.path();
    let problem = format!("{}: clusterCIDR: \"x\": not a range in CIDR notation", place.display());
    let state = live.state();
    assert_eq!(**state.load(), FileState::default());
    assert_eq!(live.reread(), Reread::Broken(problem.clone()));
    assert_eq!(live.reread(), Reread::Same, "told once");
    assert_eq!(
        state.load().rejected,
        Some(problem),
        "but known for as long as it is so"
    );
    assert_eq!(live.settings(), before);
    std::fs::remove_file(&place).unwrap();
    assert!(matches!(live.reread(), Reread::Broken(_)), "another problem");
    scratch.write(&format!("{HEAD}clusterCIDR: 10.0.0.0/8\n"));
    let nothing = Reread::Changed {
        changes: Changes::default(),
        warnings: Vec::new(),
    };
    assert_eq!(live.reread(), nothing, "mended");
    assert_eq!(**state.load(), FileState::default());
    assert_eq!(live.reread(), Reread::Same);
}

#[test]
fn what_waits_for_a_restart_is_told_once_and_not_used() {
    let scratch = Scratch::new();
    scratch.write(&format!("{HEAD}hostnameOverride: a\n"));
    let mut live = live(&scratch);
    scratch.write(&format!(
        "{HEAD}hostnameOverride: b\nclusterCIDR: 10.0.0.0/8\nportRange: 1-2\n"
    ));
    let Reread::Changed { changes, warnings } = live.reread() else {
        panic!("nothing changed");
    };
    assert_eq!((changes.live.len(), changes.needs_restart.len()), (1, 1));
    assert!(warnings.len() == 1 && warnings[0].contains("portRange"), "{warnings:?}");
    assert_eq!(live.settings().node_name, "a");
    scratch.write(&format!(
        "{HEAD}hostnameOverride: b\nclusterCIDR: 10.0.0.0/9\nportRange: 1-2\n"
    ));
    let Reread::Changed { changes, warnings } = live.reread() else {
        panic!("nothing changed");
    };
    assert_eq!(
        (changes.live.len(), changes.needs_restart.len(), warnings.len()),
        (1, 0, 0)
    );
    assert_eq!(live.settings().node_name, "a");
    let state = live.state();
    assert_eq!(state.load().waiting, [r#"hostnameOverride: "a" becomes "b""#]);
    scratch.write("mode: [");
    assert!(matches!(live.reread(), Reread::Broken(_)));
    assert_eq!(state.load().waiting.len(), 1, "a broken file takes nothing back");
    scratch.write(&format!("{HEAD}hostnameOverride: a\n"));
    assert!(matches!(live.reread(), Reread::Changed { .. }));
    assert_eq!(**state.load(), FileState::default(), "as it was at the start");
}

#[test]
fn tandems_own_file_may_come_and_go() {
    let scratch = Scratch::new();
    scratch.write(HEAD);
    let mut live = live(&scratch);
    scratch.write_tandem("dropInvalid: true\n");
    assert!(matches!(live.reread(), Reread::Changed { .. }));
    assert!(live.settings().drop_invalid);
    std::fs::remove_file(scratch.0.join("tandem.conf")).unwrap();
    assert!(matches!(live.reread(), Reread::Changed { .. }));
    assert!(!live.settings().drop_invalid);
}

/// Follows a file while `change` changes it step by step. Each step must be noticed.
fn follow(scratch: &Scratch, sources: Sources, steps: &[&dyn Fn()]) {
    let loaded = sources.load().unwrap();
    let (tell, told) = channel();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let live = Live::new(sources, loaded);
    live.follow(move |settings| tell.send(settings.oom_score_adj).is_ok())
        .unwrap();
    for (index, step) in steps.iter().enumerate() {
        step();
        let wanted = i32::try_from(index).unwrap() + 1;
        // An earlier value may be reported again; the last one has to come.
        loop {
            let got = told.recv_timeout(Duration::from_secs(20));
            if got.unwrap_or_else(|_| panic!("step {index} was not noticed in {}", scratch.0.display())) == wanted {
                break;
            }
        }
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn files_written_renamed_into_place_and_removed_for_a_while_are_followed() {
    let scratch = Scratch::new();
    let text = |n: i32| format!("{HEAD}oomScoreAdj: {n}\n");
    scratch.write(&text(0));
    let path = scratch.path();
    let sources = scratch.sources(&[]).unwrap();
    follow(
        &scratch,
        sources,
        &[
            &|| scratch.write(&text(1)),
            &|| {
                std::fs::write(scratch.0.join(".config.conf.swp"), text(2)).unwrap();
                std::fs::rename(scratch.0.join(".config.conf.swp"), &path).unwrap();
            },
            &|| {
                std::fs::remove_file(&path).unwrap();
                scratch.write(&text(3));
            },
        ],
    );
}

#[test]
fn a_config_map_is_followed_when_its_link_is_swapped() {
    let scratch = Scratch::new();
    let map = scratch.0.join("map");
    std::fs::create_dir(&map).unwrap();
    // Kubelet leaves keys out that the ConfigMap has no more.
    let version = |n: i32, key: &str, value: i32| {
        let folder = map.join(format!("..2026_{n}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(key), format!("{HEAD}oomScoreAdj: {value}\n")).unwrap();
        symlink(folder.file_name().unwrap(), map.join("..data_tmp")).unwrap();
        std::fs::rename(map.join("..data_tmp"), map.join("..data")).unwrap();
        if n > 0 {
            std::fs::remove_dir_all(map.join(format!("..2026_{}", n - 1))).unwrap();
        }
    };
    version(0, "config.conf", 0);
    symlink("..data/config.conf", map.join("config.conf")).unwrap();
    let mut sources = scratch.sources(&[]).unwrap();
    sources.config = Some(map.join("config.conf"));
    let without_the_key_for_a_while = || {
        version(2, "other.conf", 0);
        std::thread::sleep(Duration::from_secs(1)); // long enough to be noticed, and the settings stay
        version(3, "config.conf", 2);
    };
    let steps: [&dyn Fn(); 2] = [&|| version(1, "config.conf", 1), &without_the_key_for_a_while];
    follow(&scratch, sources, &steps);
}

#[test]
fn a_link_to_a_file_elsewhere_is_followed_to_it() {
    let scratch = Scratch::new();
    let elsewhere = scratch.0.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let write = |n: i32| std::fs::write(elsewhere.join("f"), format!("{HEAD}oomScoreAdj: {n}\n")).unwrap();
    write(0);
    symlink("elsewhere/f", scratch.path()).unwrap();
    let sources = scratch.sources(&[]).unwrap();
    follow(&scratch, sources, &[&|| write(1), &|| write(2)]);
}
