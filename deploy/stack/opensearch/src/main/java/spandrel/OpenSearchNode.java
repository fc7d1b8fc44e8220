package spandrel;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.Version;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.PluginInfo;

/**
 * A single OpenSearch node in this process: {@code OpenSearchNode HOME [setting=value]...}.
 *
 * <p>HOME holds the data. The node ends with the process, on SIGTERM in good order.
 */
public final class OpenSearchNode extends Node {
    private static final List<String> MODULES = List.of(
            "org.opensearch.transport.Netty4ModulePlugin",
            "org.opensearch.index.mapper.MapperExtrasModulePlugin",
            "org.opensearch.analysis.common.CommonAnalysisModulePlugin",
            "org.opensearch.painless.PainlessModulePlugin",
            "org.opensearch.join.ParentJoinModulePlugin",
            "org.opensearch.index.reindex.ReindexModulePlugin");

    private OpenSearchNode(Environment environment) {
        super(environment, MODULES.stream().map(OpenSearchNode::module).toList(), true);
    }

    public static void main(String[] arguments) throws Exception {
        Path home = Files.createDirectories(Path.of(arguments[0]).toAbsolutePath());
        Files.createDirectories(home.resolve("config"));
        Settings.Builder settings = Settings.builder().put("path.home", home.toString());
        for (String argument : List.of(arguments).subList(1, arguments.length)) {
            String[] pair = argument.split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        Environment environment =
                InternalSettingsPreparer.prepareEnvironment(settings.build(), Map.of(), null, () -> "spandrel");
        OpenSearchNode node = new OpenSearchNode(environment);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(node)));
        node.start();
        // All threads of a node are daemons: without one that waits the process would end here.
        Thread.currentThread().join();
    }

    private static PluginInfo module(String className) {
        return new PluginInfo(className, "", "", Version.CURRENT, "21", className, List.of(), false);
    }

    private static void stop(Node node) {
        try {
            node.close();
        } catch (Exception failure) {
            System.err.println("the node did not close in good order: " + failure);
        }
    }
}
