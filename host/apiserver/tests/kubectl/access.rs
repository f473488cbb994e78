//! Who may what, as kubectl sees it: roles and bindings.

use crate::session::Session;

#[test]
fn a_role_lets_a_user_do_what_it_says() {
    let s = Session::first();
    s.run_as("sesame", &["get", "pods"]).fails(
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
    );
    s.run(&[
        "create",
        "role",
        "reader",
        "--verb=get,list",
        "--resource=pods",
    ])
    .says("role.rbac.authorization.k8s.io/reader created");
    s.run(&[
        "create",
        "rolebinding",
        "bobs",
        "--role=reader",
        "--user=bob",
    ])
    .says("rolebinding.rbac.authorization.k8s.io/bobs created");
    s.run_as("sesame", &["get", "pods"])
        .warns("No resources found");
    s.run_as("sesame", &["get", "pods", "-A"])
        .fails("at the cluster scope");
    s.run(&["get", "clusterroles"])
        .says("cluster-admin")
        .says("system:discovery");
    s.run_as(
        "sesame",
        &[
            "create",
            "role",
            "more",
            "--verb=list",
            "--resource=secrets",
        ],
    )
    .fails("cannot create resource \"roles\"");
    s.run(&[
        "create",
        "role",
        "granter",
        "--verb=create",
        "--resource=roles",
    ])
    .says("created");
    s.run(&[
        "create",
        "rolebinding",
        "bobs2",
        "--role=granter",
        "--user=bob",
    ])
    .says("created");
    s.run_as(
        "sesame",
        &[
            "create",
            "role",
            "more",
            "--verb=list",
            "--resource=secrets",
        ],
    )
    .fails("is attempting to grant RBAC permissions not currently held");
    s.run_as(
        "sesame",
        &["create", "role", "same", "--verb=list", "--resource=pods"],
    )
    .says("created");
    s.run(&["delete", "rolebinding", "bobs"]).says("deleted");
    s.run_as("sesame", &["get", "pods"]).fails("forbidden");
}

#[test]
fn whoever_may_impersonates() {
    let s = Session::first();
    let pods = ["get", "pods", "--as=carol"];
    s.run(&pods)
        .fails("User \"carol\" cannot list resource \"pods\"");
    s.run_as("sesame", &pods)
        .fails("users \"carol\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope");
    s.run(&[
        "create",
        "clusterrolebinding",
        "crew",
        "--clusterrole=cluster-admin",
        "--group=crew",
    ])
    .says("created");
    s.run(&["get", "nodes", "--as=carol", "--as-group=crew"])
        .warns("No resources found");
}
