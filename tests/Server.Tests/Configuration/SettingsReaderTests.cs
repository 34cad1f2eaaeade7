using System.Collections;
using Microsoft.Extensions.Logging;
using Sconce.Server.Configuration;

namespace Sconce.Server.Tests.Configuration;

public sealed class SettingsReaderTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sconce-settings").FullName;

    [Fact]
    public void Read_nothing_given_gives_defaults()
    {
        var options = Read([]);

        Assert.Equal(("127.0.0.1", 50051, 256L << 20), (options.Address, options.Port, options.MaxMessageBytes));
    }

    [Fact]
    public void Read_all_layers_later_ones_win()
    {
        var file = WriteFile("""{ "Sconce": { "port": 1, "lanes": 3, "log_level": "warning" } }""");

        var options = Read(["--config", file, "--port", "0"], ("SCONCE__PORT", "2"), ("SCONCE__LANES", "4"));

        Assert.Equal((0, 4, LogLevel.Warning), (options.Port, options.Engine.Lanes, options.LogLevel));
    }

    [Theory]
    [InlineData("--max-message-bytes")]
    [InlineData("--max_message_bytes")]
    [InlineData("--MaxMessageBytes")]
    public void Read_any_spelling_of_a_name_is_taken(string name) => Assert.Equal(8192, Read([name, "8KiB"]).MaxMessageBytes);

    [Fact]
    public void Read_bare_flag_is_true()
    {
        var options = Read(["--insecure", "--address=0.0.0.0", "--reflection", "false"]);

        Assert.Equal((true, "0.0.0.0", false), (options.Insecure, options.Address, options.Reflection));
    }

    [Fact]
    public void Read_several_problems_tells_all_at_once()
    {
        var error = Assert.Throws<ConfigurationException>(() => Read(["--port", "70000", "--max-mesage-bytes", "1", "--lanes", "many", "stray", "--config"], ("SCONCE__MAX_QUEUE", "-1")));

        Assert.Equal(
            [
                "\"stray\" on the command line is not a setting; write --name value",
                "--config on the command line has no value; write --config VALUE",
                "--max-mesage-bytes on the command line is not a setting; did you mean max_message_bytes?",
                "--lanes on the command line is \"many\"; it must be a whole number",
                "port is 70000; it must be between 0 and 65535 (0 takes a free one)",
                "max_queue is -1; it must be >= 1",
            ],
            error.Problems);
    }

    [Theory]
    [InlineData("--address", "0.0.0.0", "set insecure")]
    [InlineData("--address", "example.org", "must be an IP address")]
    [InlineData("--address", "none", "unix_socket is empty")]
    [InlineData("--drain-timeout", "0s", "drain_timeout is 0s; it must be > 0")]
    [InlineData("--drain-timeout", "30", "it must be a duration such as 30s")]
    [InlineData("--max-message-bytes", "4TiB", "max_message_bytes is 4398046511104; it must be between 4096 and 2147483647")]
    [InlineData("--stream-in-flight", "0", "stream_in_flight is 0; it must be > 0")]
    [InlineData("--log-format", "7", "it must be one of text, json")]
    [InlineData("--device", "cuda:0", "device is \"cuda:0\"")]
    [InlineData("--config", "/no/such/file.json", "there is no such file")]
    public void Read_bad_value_says_what_it_must_be(string name, string value, string expected) =>
        Assert.Contains(expected, Assert.Throws<ConfigurationException>(() => Read([name, value])).Message, StringComparison.Ordinal);

    [Fact]
    public void Read_file_that_is_not_json_names_it()
    {
        var file = WriteFile("{ port: }");

        Assert.Contains($"--config is \"{file}\", which cannot be read", Assert.Throws<ConfigurationException>(() => Read(["--config", file])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_file_with_settings_outside_the_section_says_where_they_belong()
    {
        var file = WriteFile("""{ "port": 1 }""");

        Assert.Contains("settings stand in a \"Sconce\" object", Assert.Throws<ConfigurationException>(() => Read(["--config", file])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_setting_reads_back_what_it_prints()
    {
        var defaults = new SconceServerOptions();

        Assert.All(ServerSettings.All, setting =>
        {
            Assert.True(setting.TryWrite(defaults, setting.Default), $"{setting.Name} refuses its own default {setting.Default}");
            Assert.Equal(setting.Default, setting.Read(defaults));
            Assert.NotEmpty(setting.Description);
        });
    }

    [Fact]
    public void Every_engine_setting_is_a_setting_of_the_server() =>
        Assert.All(new SconceServerOptions().Engine.Describe(), limit => Assert.Equal(limit.Value, ServerSettings.Find(limit.Key)?.Default));

    [Theory]
    [InlineData("1.5KiB", 1536)]
    [InlineData("2 gib", 2L << 30)]
    [InlineData("12", 12)]
    [InlineData("7B", 7)]
    public void TryParseBytes_sizes_are_read(string text, long expected) => Assert.Equal((true, expected), (Units.TryParseBytes(text, out var bytes), bytes));

    [Theory]
    [InlineData("1e3")]
    [InlineData("KiB")]
    [InlineData("99999999TiB")]
    [InlineData("")]
    public void TryParseBytes_others_are_refused(string text) => Assert.False(Units.TryParseBytes(text, out _));

    [Theory]
    [InlineData("250ms", 0.25)]
    [InlineData("1.5m", 90)]
    [InlineData("1d", 86400)]
    [InlineData("00:00:05", 5)]
    public void TryParseDuration_durations_are_read(string text, double seconds) =>
        Assert.Equal((true, TimeSpan.FromSeconds(seconds)), (Units.TryParseDuration(text, out var duration), duration));

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static SconceServerOptions Read(string[] arguments, params (string Name, string Value)[] environment) =>
        SettingsReader.Read(arguments, new Hashtable(environment.ToDictionary(pair => pair.Name, pair => pair.Value)));

    private string WriteFile(string content)
    {
        var path = Path.Combine(_directory, Path.GetRandomFileName() + ".json");
        File.WriteAllText(path, content);
        return path;
    }
}
