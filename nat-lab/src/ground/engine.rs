//! The container engine: starts, lists and removes containers of the lab's image.

use std::collections::HashMap;
use std::sync::Arc;

use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::Mount;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use super::leftovers::Owner;
use super::{GroundError, image};

/// The label of every container that the lab creates. Its value identifies the process that created it.
pub(super) const LABEL: &str = "handover.nat-lab.owner";

/// The container engine of this machine, with the lab's image loaded.
#[derive(Clone)]
pub struct Engine {
    docker: Docker,
    image: Arc<image::Image>,
    owner: Owner,
}

/// A container, as listed by the engine.
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) owner: String,
}

impl Engine {
    /// Connects to the engine, and creates the image from the programs of this build.
    ///
    /// # Errors
    ///
    /// No engine answers, the programs are not built, or the engine rejects the image.
    pub async fn connect() -> Result<Self, GroundError> {
        let unreachable = |error: testcontainers::bollard::errors::Error| {
            GroundError::NoEngine(error.to_string())
        };
        let docker = Docker::connect_with_defaults().map_err(unreachable)?;
        let docker = docker.negotiate_version().await.map_err(unreachable)?;
        let image = image::Image::make(&docker).await?;
        Ok(Self {
            docker,
            image: Arc::new(image),
            owner: Owner::this(),
        })
    }

    /// Starts an idle container without a network. Returns it with its process ID on this machine.
    pub(super) async fn start(
        &self,
        name: &str,
    ) -> Result<(ContainerAsync<GenericImage>, i32), GroundError> {
        let failed = |reason: String| GroundError::Engine {
            doing: format!("start {name}"),
            reason,
        };
        let image = GenericImage::new(image::NAME, self.image.tag())
            .with_entrypoint(image::LAB)
            .with_cmd(["idle"])
            .with_network("none")
            .with_container_name(format!("handover-lab-{}-{name}", self.owner.pid()))
            .with_hostname(name)
            .with_label(LABEL, self.owner.to_string())
            .with_mount(Mount::tmpfs_mount("/tmp"));
        let started = image.start().await;
        let container = started.map_err(|error| failed(error.to_string()))?;
        let inspected = self.docker.inspect_container(container.id(), None).await;
        let inspected = inspected.map_err(|error| failed(error.to_string()))?;
        let pid = inspected.state.and_then(|state| state.pid);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.filter(|pid| *pid > 0);
        let pid = pid.ok_or_else(|| failed("it ended at once".into()))?;
        Ok((container, pid))
    }

    /// Lists the containers of all labs.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, GroundError> {
        let filters = HashMap::from([("label", vec![LABEL])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| GroundError::Engine {
            doing: "list containers".into(),
            reason: error.to_string(),
        })?;
        let with_owner = listed.into_iter().filter_map(|container| {
            let mut labels = container.labels.unwrap_or_default();
            Some(Listed {
                id: container.id?,
                owner: labels.remove(LABEL)?,
            })
        });
        Ok(with_owner.collect())
    }

    /// Removes a container, running or not. Succeeds if it is already gone.
    pub(super) async fn remove(&self, id: &str) -> Result<(), GroundError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
        let removed = self
            .docker
            .remove_container(id, Some(options.build()))
            .await;
        match removed {
            Err(testcontainers::bollard::errors::Error::DockerResponseServerError {
                status_code: 404 | 409,
                ..
            })
            | Ok(()) => Ok(()),
            Err(error) => Err(GroundError::Engine {
                doing: format!("remove the container {id}"),
                reason: error.to_string(),
            }),
        }
    }

    /// Removes all containers that this process created. Returns their number.
    ///
    /// # Errors
    ///
    /// The engine returns an error.
    pub async fn remove_own(&self) -> Result<usize, GroundError> {
        let own = self.owner.to_string();
        let mut listed = self.list().await?;
        listed.retain(|container| container.owner == own);
        self.remove_all(listed).await
    }

    pub(super) async fn remove_all(&self, listed: Vec<Listed>) -> Result<usize, GroundError> {
        let count = listed.len();
        let removals = listed.iter().map(|container| self.remove(&container.id));
        futures::future::try_join_all(removals).await?;
        Ok(count)
    }
}
