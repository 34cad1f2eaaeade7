namespace Sconce.Server.Tests.Configuration;

public sealed class OperationsPageTests
{
    /// <summary>Settings whose default is the machine's.</summary>
    private static readonly Dictionary<string, string> Measured = new()
    {
        ["lanes"] = "half the cores, 2 to 4",
        ["intra_op_threads"] = "all cores up to 4, then half",
        ["memory_budget_bytes"] = "three quarters of memory",
        ["graph_budget_bytes"] = "a quarter of memory",
        ["kept_tensor_budget_bytes"] = "a quarter of memory",
        ["shared_region_budget_bytes"] = "a quarter of memory",
        ["max_shared_region_bytes"] = "a quarter of memory",
    };

    [Fact]
    public void Page_lists_every_setting_as_it_is()
    {
        var expected = string.Join('\n', ServerSettings.All.Select(Row));

        Assert.Contains(expected, File.ReadAllText(Page()).ReplaceLineEndings("\n"), StringComparison.Ordinal);
    }

    private static string Row(ServerSetting setting)
    {
        var value = Measured.GetValueOrDefault(setting.Name) ?? (setting.Default.Length == 0 ? "" : $"`{setting.Default}`");
        return $"| `{setting.Name}` | {value} | {setting.Description} |";
    }

    private static string Page()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory.FullName, "Sconce.slnx")))
        {
            directory = directory.Parent ?? throw new DirectoryNotFoundException($"no Sconce.slnx above {AppContext.BaseDirectory}");
        }

        return Path.Combine(directory.FullName, "docs", "operations.md");
    }
}
