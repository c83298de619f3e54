//! The chart's own role at a real API server that writes down every request: Tandem is refused nothing, uses every
//! right, and names each one that is taken away.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use http::Method;
use serde_json::{Value, json};

use super::helm::{Helm, NAMESPACE};
use super::objects;
use super::{Cases, example};
use crate::cluster::{Cluster, path};
use crate::eventually;
use crate::fleet::lost_sources;
use crate::manifests::{Service, to_yaml};
use crate::scratch::Scratch;
use crate::tandem::{Plan, Tandem};
use crate::traffic::Protocol;

const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster with one node whose API server writes down every request.
#[derive(Debug)]
pub struct Audited {
    /// The cluster.
    pub cluster: Cluster,
    folder: Scratch,
}

/// A verb on a kind of object, such as `list` of `discovery.k8s.io` and `endpointslices`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

impl Audited {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let folder = Scratch::new("audit")?;
        let (policy, log) = (folder.path().join("policy.yaml"), folder.path().join("audit.log"));
        let rules = json!([{ "level": "Metadata", "omitStages": ["RequestReceived", "ResponseStarted"] }]);
        let text = json!({ "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules });
        fs::write(&policy, to_yaml(&text)?)?;
        let flags = [
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", log.display()),
            "--audit-log-mode=blocking".to_owned(),
        ];
        let cluster = Cluster::start_by(1, &flags.each_ref().map(String::as_str))?;
        // A kubelet labels its Node, and the chart's pods go only to Nodes with this label.
        let labels = json!({ "metadata": { "labels": { "kubernetes.io/os": "linux" } } });
        cluster
            .api()
            .patch(&path("Node", "", &cluster.node(1)?.name)?, &labels)?;
        Ok(Self { cluster, folder })
    }

    /// The requests of a user so far: the right that each one needs, and the code of the answer.
    fn requests(&self, user: &str) -> Result<Vec<(Right, u64)>> {
        let log = fs::read_to_string(self.folder.path().join("audit.log")).context("read the audit log")?;
        let mut requests = Vec::new();
        // The last line may be half written.
        for event in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if event["user"]["username"] != user {
                continue;
            }
            let object = &event["objectRef"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let right = Right {
                group: text(&object["apiGroup"]),
                resource: text(&object["resource"]),
                verb: text(&event["verb"]),
            };
            requests.push((right, event["responseStatus"]["code"].as_u64().unwrap_or_default()));
        }
        Ok(requests)
    }
}

/// The chart's role, bound to its service account.
struct Role<'a> {
    site: &'a Audited,
    object: Value,
    user: String,
    kubeconfig: PathBuf,
    /// The rendered `config.conf`.
    configuration: Value,
}

impl<'a> Role<'a> {
    /// Makes the chart's account, role and binding, and a kubeconfig with a token of the account.
    fn new(site: &'a Audited) -> Result<Self> {
        let helm = Helm::new()?;
        let made = helm.template("rights", NAMESPACE, &example("host")?.values, &[])?;
        let made = objects::parse(&made)?;
        let account = objects::of(&made, "ServiceAccount")?;
        let name = account["metadata"]["name"].as_str().context("no name")?;
        let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
        let api = site.cluster.api();
        api.call(Method::POST, &accounts, Some(account))?;
        for kind in ["ClusterRole", "ClusterRoleBinding"] {
            api.create(objects::of(&made, kind)?)?;
        }
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let answer = api.call(Method::POST, &format!("{accounts}/{name}/token"), Some(&request))?;
        let token = answer["status"]["token"].as_str().context("no token")?;
        let text = fs::read_to_string(site.cluster.tandem_kubeconfig())?;
        let kubeconfig = site.folder.path().join("kubeconfig");
        fs::write(&kubeconfig, text.replace("tandem-token", token))?;
        let configuration = objects::of(&made, "ConfigMap")?["data"]["config.conf"].as_str();
        Ok(Self {
            site,
            object: objects::of(&made, "ClusterRole")?.clone(),
            user: format!("system:serviceaccount:{NAMESPACE}:{name}"),
            kubeconfig,
            configuration: serde_saphyr::from_str(configuration.context("no config.conf")?)
                .map_err(|error| anyhow!("{error}"))?,
        })
    }

    /// Every right that it gives.
    fn rights(&self) -> BTreeSet<Right> {
        let mut rights = BTreeSet::new();
        for rule in objects::list(&self.object["rules"]) {
            for group in objects::texts(&rule["apiGroups"]) {
                for resource in objects::texts(&rule["resources"]) {
                    rights.extend(objects::texts(&rule["verbs"]).into_iter().map(|verb| Right {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb,
                    }));
                }
            }
        }
        rights
    }

    /// Changes it to these rights. Returns when the API server knows that it does not give `without`.
    fn give<'r>(&self, rights: impl Iterator<Item = &'r Right>, without: Option<&Right>) -> Result<()> {
        let rules: Vec<Value> = rights
            .map(|right| json!({ "apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb] }))
            .collect();
        let name = self.object["metadata"]["name"].as_str().unwrap_or_default();
        let api = self.site.cluster.api();
        api.patch(&path("ClusterRole", "", name)?, &json!({ "rules": rules }))?;
        for right in &self.rights() {
            let wanted = without != Some(right);
            let attributes = json!({ "group": right.group, "resource": right.resource, "verb": right.verb });
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": { "user": self.user, "resourceAttributes": attributes },
            });
            let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let known = eventually(PATIENCE, || {
                let answer = api.call(Method::POST, reviews, Some(&review)).ok()?;
                (answer["status"]["allowed"] == wanted).then_some(())
            });
            known.with_context(|| format!("the API server does not know that {right:?} is {wanted}"))?;
        }
        Ok(())
    }

    /// A Tandem with the role's token and the chart's configuration.
    fn plan(&self, lists: &str) -> Result<Plan> {
        let mut plan = Tandem::on(self.site.cluster.node(1)?);
        for (field, value) in self.configuration.as_object().into_iter().flatten() {
            plan = plan.setting(field, value.clone());
        }
        // A kubelet gives its pods the value that the chart asks for. Here it stays as it is: to lower it takes one right more.
        let standing = fs::read_to_string("/proc/self/oom_score_adj")?;
        let plan = plan.setting("oomScoreAdj", standing.trim().parse::<i32>()?);
        Ok(plan
            .kubeconfig(&self.kubeconfig)
            .own_setting("apiServer", json!({ "lists": lists })))
    }
}

/// How Tandem asks for lists so that it needs this verb. As the beginning of a watch, a list needs only the right to watch.
/// API servers before Kubernetes 1.34 do not have such lists.
fn lists_for(verb: &str) -> &'static str {
    if verb == "list" { "Cache" } else { "Stream" }
}

pub(super) fn judge(cases: &mut Cases, site: &Audited) -> Result<()> {
    let service = Service::new("default", "web").port("http", Protocol::Tcp, 80, 8080);
    site.cluster.api().create(&service.build())?;
    let role = Role::new(site)?;
    let (rights, mut used) = (role.rights(), BTreeSet::new());
    for lists in ["Stream", "Cache"] {
        cases.judge(&format!("the role is enough: {lists}"), enough(&role, lists, &mut used));
    }
    cases.judge("the role gives no right that is not used", {
        let unused: Vec<_> = rights.difference(&used).collect();
        if unused.is_empty() {
            Ok(())
        } else {
            Err(anyhow!("{unused:?}"))
        }
    });
    for right in &rights {
        let case = format!("without the right to {} {}", right.verb, right.resource);
        cases.judge(&case, missed(&role, &rights, right));
    }
    Ok(())
}

/// Fails if Tandem is refused something. Adds the rights that it uses.
fn enough(role: &Role, lists: &str, used: &mut BTreeSet<Right>) -> Result<()> {
    let before = role.site.requests(&role.user)?.len();
    let mut tandem = role.plan(lists)?.start()?;
    tandem.wait_ready()?;
    let lost = lost_sources(&tandem.status()?);
    ensure!(lost.is_empty(), "not everything is watched: {lost:?}");
    // Its last request is the Event that says that it has started.
    let written = eventually(PATIENCE, || {
        let requests = role.site.requests(&role.user).ok()?;
        let event = |(right, _): &&(Right, u64)| right.resource == "events";
        requests[before..].iter().find(event).map(|(_, code)| *code)
    });
    let written = written.context("no Event was written")?;
    ensure!([201, 409].contains(&written), "an Event was answered by {written}");
    let warnings: Vec<_> = tandem.log().into_iter().filter(|line| line.contains("WARN")).collect();
    ensure!(warnings.is_empty(), "it warns: {warnings:#?}");
    // A watch is written down when it ends.
    tandem.finish()?;
    let watches = eventually(PATIENCE, || {
        let requests = role.site.requests(&role.user).ok()?;
        let watches = requests[before..].iter().filter(|(right, _)| right.verb == "watch");
        (watches.count() >= 4).then_some(())
    });
    watches.context("not every watch was written down")?;
    let requests = role.site.requests(&role.user)?;
    for (right, code) in &requests[before..] {
        ensure!(![401, 403].contains(code), "{right:?} is refused: {code}");
        used.insert(right.clone());
    }
    Ok(())
}

/// Fails if Tandem does not say that this right is missing.
fn missed(role: &Role, rights: &BTreeSet<Right>, right: &Right) -> Result<()> {
    role.give(rights.iter().filter(|other| *other != right), Some(right))?;
    let tandem = role.plan(lists_for(&right.verb))?.start()?;
    let words = if right.resource == "events" {
        "Events cannot be written: ".to_owned()
    } else {
        format!("RBAC lacks verb {} on resource {}", right.verb, right.resource)
    };
    let line = tandem.wait_log(&words, PATIENCE)?;
    ensure!(line.contains("WARN") && line.contains("403"), "{line}");
    tandem.finish()?;
    role.give(rights.iter(), None)
}
