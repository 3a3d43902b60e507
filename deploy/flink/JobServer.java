import org.apache.beam.runners.flink.FlinkJobServerDriver;

/** Beam's job server for a cluster that has Beam's runner on its own class path. */
public final class JobServer {
  private JobServer() {}

  public static void main(String[] arguments) throws Exception {
    // The server uploads the files of this path with every job: 150 MB, half a minute.
    System.setProperty("java.class.path", "");
    FlinkJobServerDriver.main(arguments);
  }
}
