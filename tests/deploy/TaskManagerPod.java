import java.io.File;
import java.util.Collections;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.kubernetes.kubeclient.FlinkKubeClientFactory;
import org.apache.flink.kubernetes.kubeclient.factory.KubernetesTaskManagerFactory;
import org.apache.flink.kubernetes.kubeclient.parameters.KubernetesTaskManagerParameters;
import org.apache.flink.kubernetes.shaded.io.fabric8.kubernetes.client.utils.Serialization;
import org.apache.flink.kubernetes.utils.KubernetesUtils;
import org.apache.flink.runtime.clusterframework.ContaineredTaskManagerParameters;
import org.apache.flink.runtime.clusterframework.TaskExecutorProcessUtils;

/** Prints the pod that a JobManager would ask Kubernetes for: CONF_DIR TEMPLATE. */
public final class TaskManagerPod {
  private TaskManagerPod() {}

  public static void main(String[] arguments) throws Exception {
    Configuration settings = GlobalConfiguration.loadConfiguration(arguments[0]);
    var memory =
        ContaineredTaskManagerParameters.create(
            settings, TaskExecutorProcessUtils.processSpecFromConfig(settings));
    var parameters =
        new KubernetesTaskManagerParameters(
            settings,
            "fleetmill-taskmanager-1-1",
            "",
            "",
            memory,
            Collections.emptyMap(),
            Collections.emptySet());
    try (var client = FlinkKubeClientFactory.getInstance().fromConfiguration(settings, "test")) {
      var template =
          KubernetesUtils.loadPodFromTemplateFile(
              client, new File(arguments[1]), "flink-main-container");
      var pod = KubernetesTaskManagerFactory.buildTaskManagerKubernetesPod(template, parameters);
      System.out.println(Serialization.asYaml(pod.getInternalResource()));
    }
  }
}
