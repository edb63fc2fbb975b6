//! Lists: pages, tokens, filters.

use tonic::Code;
use windlass_core::role::Role;
use windlass_proto::api::v1 as pb;

use crate::harness::{Fixture, labels, refused};

#[tokio::test(flavor = "multi_thread")]
async fn pages_cover_everything_once_and_tokens_are_bound_to_their_list() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for number in 0..7 {
        let request = pb::CreateProjectRequest {
            project_id: format!("p-{number}"),
            project: Some(pb::Project {
                labels: labels(&[("parity", if number % 2 == 0 { "even" } else { "odd" })]),
                ..Default::default()
            }),
            ..Default::default()
        };
        admin.projects().create_project(request).await.expect("project");
    }
    let list = |page_size: i32, page_token: &str, filter: &str| {
        let request =
            pb::ListProjectsRequest { page_size, page_token: page_token.to_owned(), filter: filter.to_owned() };
        let client = admin.clone();
        async move { client.projects().list_projects(request).await.map(tonic::Response::into_inner) }
    };
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = list(3, &token, "").await.expect("page");
        seen.extend(page.projects.into_iter().map(|project| project.name));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let expected: Vec<_> = (0..7).map(|number| format!("projects/p-{number}")).collect();
    assert_eq!((seen, pages), (expected, 3));

    let even = list(0, "", "label.parity=even").await.expect("filtered");
    assert_eq!(even.projects.len(), 4);
    assert!(even.next_page_token.is_empty());
    assert!(list(0, "", "label.parity=even AND label.parity=odd").await.is_err());

    let token = list(3, "", "").await.expect("page").next_page_token;
    for (filter, bad) in [("label.parity=even", token.as_str()), ("", "not a token"), ("", &token[1..])] {
        refused(list(3, bad, filter).await, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    }
    refused(list(-1, "", "").await, Code::InvalidArgument, "INVALID_FIELD");
    let all = list(i32::MAX, "", "").await.expect("a large size is coerced");
    assert_eq!(all.projects.len(), 7);

    let status = refused(list(0, "", "label.a=b AND colour=red").await, Code::InvalidArgument, "INVALID_FIELD");
    assert!(status.message().contains("\"colour=red\""), "{status:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_key_lists_its_own_project_only() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    admin.project("mine").await;
    admin.project("theirs").await;
    let own = fixture.client(Role::Viewer, Some("mine")).await;
    let listed = own.projects().list_projects(pb::ListProjectsRequest::default()).await.expect("list").into_inner();
    assert_eq!(listed.projects.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["projects/mine"]);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_by_id_from_either_end() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for number in 0..5 {
        admin.project(&format!("p-{number}")).await;
    }
    let list = |after_id: u64, page_size: i32, latest: bool| {
        let request = pb::ListEventsRequest { after_id, page_size, latest, ..Default::default() };
        let client = admin.clone();
        async move {
            let events = client.events().list_events(request).await.expect("events").into_inner().events;
            events.into_iter().filter(|e| e.kind == "project.created").map(|e| (e.id, e.target)).collect::<Vec<_>>()
        }
    };
    let all = list(0, 500, false).await;
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted());
    assert_eq!(list(all[2].0, 500, false).await, all[3..]);
    assert_eq!(list(0, 2, true).await, all[3..]);
    assert_eq!(list(all[3].0, 2, true).await, all[4..]);
    fixture.stop().await;
}
