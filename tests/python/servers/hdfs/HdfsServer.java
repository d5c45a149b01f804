import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/**
 * A NameNode and a DataNode on free ports, with their directories in the first argument. It prints the NameNode's port.
 * For each line LOCAL, tab, REMOTE it copies a file and answers "put". It ends with its standard input.
 */
public final class HdfsServer {
    public static void main(String[] arguments) throws Exception {
        Configuration configuration = new Configuration();
        configuration.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, new File(arguments[0], "hdfs").getPath());
        // Small blocks, so that files have several of them.
        configuration.setLong("dfs.blocksize", 4 << 20);
        try (MiniDFSCluster cluster = new MiniDFSCluster.Builder(configuration).numDataNodes(1).build()) {
            cluster.waitActive();
            System.out.println("ready " + cluster.getNameNodePort());
            copyFiles(cluster.getFileSystem());
        }
        System.exit(0);
    }

    private static void copyFiles(FileSystem files) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] paths = line.split("\t");
            files.copyFromLocalFile(false, true, new Path(paths[0]), new Path(paths[1]));
            System.out.println("put");
        }
    }
}
