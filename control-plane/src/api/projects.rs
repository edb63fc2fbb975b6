//! `ProjectService`.

use tonic::{Request, Response, Status};
use windlass_core::{Error, name::split_path};
use windlass_db::projects::ProjectQuery;
use windlass_proto::api::v1::{self as pb, project_service_server::ProjectService};

use super::{Api, convert::projects as convert, filter::Filter, page::Page};
use crate::app::{Caller, projects};

#[tonic::async_trait]
impl ProjectService for Api {
    async fn create_project(
        &self,
        request: Request<pb::CreateProjectRequest>,
    ) -> Result<Response<pb::Project>, Status> {
        self.change(request, |_, tx, caller, message| {
            Box::pin(async move {
                let given = message.project.unwrap_or_default();
                let quota = convert::first_quota(given.quota.as_ref());
                projects::create(tx, caller, &message.project_id, given.labels, quota).await.map(convert::project)
            })
        })
        .await
    }

    async fn get_project(&self, request: Request<pb::GetProjectRequest>) -> Result<Response<pb::Project>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            projects::get(ctx, caller, &project_id("name", &message.name)?).await.map(convert::project)
        })
        .await
    }

    async fn list_projects(
        &self,
        request: Request<pb::ListProjectsRequest>,
    ) -> Result<Response<pb::ListProjectsResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let filter = Filter::parse(&message.filter, &[])?;
            let page = Page::read(format!("projects?{}", message.filter), message.page_size, &message.page_token)?;
            let query =
                ProjectQuery { only: None, after: page.after.clone(), labels: filter.labels, limit: page.limit() };
            let mut rows = projects::list(ctx, caller, query).await?;
            let next_page_token = page.cut(&mut rows, |row| row.name.clone());
            Ok(pb::ListProjectsResponse { projects: rows.into_iter().map(convert::project).collect(), next_page_token })
        })
        .await
    }

    async fn update_project(
        &self,
        request: Request<pb::UpdateProjectRequest>,
    ) -> Result<Response<pb::Project>, Status> {
        self.change(request, |_, tx, caller, message| {
            Box::pin(async move {
                let given = message.project.unwrap_or_default();
                let name = project_id("project.name", &given.name)?;
                let update = convert::update(&given, message.update_mask)?;
                projects::update(tx, caller, &name, &given.etag, update).await.map(convert::project)
            })
        })
        .await
    }

    async fn delete_project(
        &self,
        request: Request<pb::DeleteProjectRequest>,
    ) -> Result<Response<pb::DeleteProjectResponse>, Status> {
        self.change(request, |_, tx, caller, message| {
            Box::pin(async move {
                let name = project_id("name", &message.name)?;
                projects::delete(tx, caller, &name, &message.etag).await?;
                Ok(pb::DeleteProjectResponse {})
            })
        })
        .await
    }
}

/// The last part of a project's full name, given in `field`.
///
/// # Errors
/// `INVALID_FIELD`.
pub(super) fn project_id(field: &str, path: &str) -> Result<String, Error> {
    let [name] = split_path(field, path, ["projects"])?;
    Ok(name)
}

/// The project that a list is limited to: `projects/p`; None for an empty parent or `projects/-`.
///
/// # Errors
/// `INVALID_FIELD` on `parent`.
pub(super) fn parent(path: &str) -> Result<Option<String>, Error> {
    match path {
        "" | "projects/-" => Ok(None),
        path => project_id("parent", path).map(Some),
    }
}
