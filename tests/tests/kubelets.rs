//! Real nodes: kubelet, containerd and runc run Pods, and kubeadm's kube-proxy makes Services of them.

use serde_json::json;
use tandem_tests::eventually;
use tandem_tests::kubelets::{Kubelets, PATIENCE, images};
use tandem_tests::netns::Namespace;
use tandem_tests::traffic::{Protocol, Request};

const NODES: u8 = 3;

#[test]
fn three_real_nodes_run_pods_that_answer_in_both_families() {
    let kubelets = Kubelets::start(NODES).unwrap();
    kubelets
        .load(&[images::whoami().unwrap(), images::kube_proxy().unwrap()])
        .unwrap();
    kubelets.apply(&kubelets.whoami("web")).unwrap();
    kubelets.kubeadm_kube_proxy(&json!({ "mode": "nftables" })).unwrap();
    let pods = kubelets.wait_pods("default", "app=web", usize::from(NODES)).unwrap();
    kubelets
        .wait_pods("kube-system", "k8s-app=kube-proxy", usize::from(NODES))
        .unwrap();

    for pod in &pods {
        assert_eq!(pod.addresses.len(), 2, "{pod:?}");
        assert_eq!(pod.restarts, 0, "{pod:?}");
        for address in &pod.addresses {
            answers(&kubelets.cluster().client, (*address, 8080).into(), &[&pod.name]);
        }
    }
    let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    let node = kubelets.node(1).unwrap().namespace.clone();
    let pod = kubelets.network_of(&pods[1]).unwrap();
    for address in kubelets.cluster_ips("web").unwrap() {
        answers(&node, (address, 80).into(), &names);
        answers(&pod, (address, 80).into(), &names);
    }
    assert!(kubelets.log_of(&pods[0], "whoami").unwrap().is_empty());

    let trace = kubelets.trace();
    assert!(
        trace.left().unwrap().len() > 3,
        "a trace that finds nothing proves nothing"
    );
    drop((pod, node, kubelets));
    assert_eq!(trace.left().unwrap(), Vec::<String>::new());
}

#[track_caller]
fn answers(from: &Namespace, to: std::net::SocketAddr, names: &[&str]) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let request = Request::new(protocol, to);
        let answer = eventually(PATIENCE, || {
            let outcome = request.send(from).ok()?;
            outcome.answered_by().map(ToOwned::to_owned)
        });
        let by = answer.unwrap_or_default();
        assert!(
            names.contains(&by.as_str()),
            "{protocol} {to} from {}: answered by {by:?}, not by one of {names:?}",
            from.name()
        );
    }
}
