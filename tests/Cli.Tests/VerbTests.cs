using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Sconce.Cli.Data;
using Sconce.Cli.State;
using Sconce.Client;
using Sconce.Server;
using Sconce.V1;

namespace Sconce.Cli.Tests;

/// <summary>Every verb against a server in this process, over a real socket.</summary>
public sealed class VerbTests : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-verbs-").FullName;
    private SconceServer _server = null!;

    public async ValueTask InitializeAsync()
    {
        var options = new SconceServerOptions { Port = 0, LogLevel = LogLevel.Error };
        options.Engine.ModelsDir = options.Engine.ExportDir = Directory.CreateDirectory(Path.Combine(_folder, "server")).FullName;
        options.Engine.Data = Path.Combine(_folder, "data");
        _server = await SconceServer.StartAsync(options, cancellationToken: TestContext.Current.CancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Create_ls_describe_delete_show_one_module_and_then_none()
    {
        var created = Json(await RunAsync("create", "mlp", "--mlp", "4,8,2", "--seed", "0", "--json"));
        Assert.Equal(("mlp", "Sequential", 58L), (created.GetProperty("name").GetString(), created.GetProperty("type").GetString(), created.GetProperty("parameters").GetInt64()));

        Assert.Matches(@"mlp +Sequential +train +58 +232 B +cpu", Ok(await RunAsync("ls")));
        Assert.Equal("mlp", Json(await RunAsync("ls", "ml", "--json"))[0].GetProperty("name").GetString());
        Assert.Equal(0, Json(await RunAsync("ls", "other", "--json")).GetArrayLength());

        var described = Ok(await RunAsync("describe", "mlp", "--tensors"));
        Assert.StartsWith("Sequential(\n  (0): Linear(in_features=4, out_features=8, bias=True)\n  (1): ReLU()\n", described, StringComparison.Ordinal);
        Assert.Matches(@"0\.weight +float32 +\[8, 4\] +parameter", described);
        Assert.Equal("Linear", Json(await RunAsync("describe", "mlp", "--json")).GetProperty("root").GetProperty("children")[2].GetProperty("type").GetString());

        Assert.Equal("deleted mlp\n", Ok(await RunAsync("delete", "mlp")));
        Assert.Contains("No modules", (await RunAsync("ls")).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Apply_prints_each_visit_children_first()
    {
        Ok(await RunAsync("create", "net", "--mlp", "2,2,2"));
        Assert.Equal(
            "applied 0: Linear(in_features=2, out_features=2, bias=True)\nvisited 1: ReLU()\napplied 2: Linear(in_features=2, out_features=2, bias=True)\nvisited Sequential()\n",
            Ok(await RunAsync("apply", "net", "fill_", "--arg", "val=1.0", "--type", "Linear", "--parameter", "weight")));
        var visits = Json(await RunAsync("apply", "net", "reset_parameters", "--path", "2", "--seed", "1", "--json")).GetProperty("visits");
        Assert.Equal(("", true), (visits[0].GetProperty("path").GetString(), visits[0].GetProperty("applied").GetBoolean()));
        Assert.Equal(ExitCode.Refused, (await RunAsync("apply", "net", "xavier")).Code);
    }

    [Fact]
    public async Task Describe_shows_names_that_are_None_ties_and_what_a_policy_holds()
    {
        await using var client = new SconceClient(_server.Addresses[0]);
        var net = await client.CreateModuleAsync("net", Nn.Sequential(Nn.Linear(2, 2, bias: false), Nn.Linear(2, 2)), cancellationToken: TestContext.Current.CancellationToken);
        await net.GetSubmodule("1").TieParameterAsync("weight", "0.weight", TestContext.Current.CancellationToken);
        await net.SetTrainPolicyAsync(new V1.TrainPolicy { Rules = { new V1.TrainRule { Path = "1", Hold = V1.TrainHold.Eval, RequiresGrad = false } } }, TestContext.Current.CancellationToken);
        var described = Ok(await RunAsync("describe", "net", "--tensors"));
        Assert.Contains("held: 1 (eval, requires_grad=False)", described, StringComparison.Ordinal);
        Assert.Matches(@"0\.bias +None +parameter", described);
        Assert.Contains("the same as 0.weight", described, StringComparison.Ordinal);
        var root = Json(await RunAsync("describe", "net", "--json")).GetProperty("root");
        Assert.True(root.GetProperty("children")[0].GetProperty("parameters")[1].GetProperty("is_none").GetBoolean());
        Assert.Equal("eval", root.GetProperty("children")[1].GetProperty("hold").GetString());
    }

    [Fact]
    public async Task Create_takes_a_spec_from_a_file_from_standard_input_and_from_flags()
    {
        const string spec = """{"type": "Linear", "args": {"in_features": 3, "out_features": 1, "bias": false}}""";
        var file = Path.Combine(_folder, "spec.json");
        await File.WriteAllTextAsync(file, spec, TestContext.Current.CancellationToken);

        Ok(await RunAsync("create", "a", file));
        Ok(await Cli.RunAsync(["create", "b", "-", "--address", _server.Addresses[0]], spec));
        Ok(await RunAsync("create", "c", "--type", "Linear", "--arg", "in_features=3", "--arg", "out_features=1", "--arg", "bias=false", "--dtype", "float64"));

        Assert.Equal([12L, 12L, 24L], Json(await RunAsync("ls", "--json")).EnumerateArray().Select(module => module.GetProperty("bytes").GetInt64()));
    }

    [Fact]
    public async Task Server_refusal_is_1_with_its_message_and_field_paths()
    {
        var refused = await RunAsync("create", "a", "--type", "Linear", "--arg", "in_features=3", "--arg", "out_feature=1");
        Assert.Equal(ExitCode.Refused, refused.Code);
        Assert.StartsWith("INVALID_ARGUMENT: ", refused.Error, StringComparison.Ordinal);
        Assert.Contains("spec.args.out_feature", refused.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", refused.Error, StringComparison.Ordinal);

        var json = await RunAsync("create", "a", "--type", "Linear", "--arg", "in_features=3", "--json");
        using var document = JsonDocument.Parse(json.Error);
        var error = document.RootElement.GetProperty("error");
        Assert.Equal("INVALID_ARGUMENT", error.GetProperty("code").GetString());
        Assert.Contains(error.GetProperty("fields").EnumerateArray(), field => field.GetProperty("path").GetString() == "spec.args.out_features");

        var missing = await RunAsync("describe", "nothing");
        Assert.Equal(ExitCode.Refused, missing.Code);
        Assert.StartsWith("NOT_FOUND: ", missing.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Forward_prints_shape_and_values_and_writes_npy()
    {
        Ok(await RunAsync("create", "id", "--type", "Identity"));

        Assert.Equal("float32[1, 2]\n[[ 1.0000, -2.5000]]\n", Ok(await RunAsync("forward", "id", "[[1, -2.5]]")));
        var output = Json(await RunAsync("forward", "id", "[[1, 2]]", "--dtype", "bfloat16", "--json")).GetProperty("output");
        Assert.Equal("""{"dtype":"bfloat16","shape":[1,2],"values":[[1,2]]}""", JsonNode.Parse(output.GetRawText())!.ToJsonString());
        Assert.Contains("bfloat16[1, 2]", Ok(await Cli.RunAsync(["forward", "id", "-", "--dtype", "bfloat16", "--address", _server.Addresses[0]], "[[1, 2]]")), StringComparison.Ordinal);

        var file = Path.Combine(_folder, "out.npy");
        Ok(await RunAsync("forward", "id", "--input", "input=random:3x2", "-o", file));
        Assert.Equal("float32[3, 2]", NpyFile.Read(file).ToString());
        Assert.Contains("float32[3, 2]", Ok(await RunAsync("forward", "id", file)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Train_lowers_the_loss_and_measures_accuracy()
    {
        // Two classes, told apart by the sign of the first number.
        var random = new Random(0);
        var values = Enumerable.Range(0, 512).Select(_ => (float)(random.NextDouble() - 0.5)).ToArray();
        var (x, y) = (Path.Combine(_folder, "x.npy"), Path.Combine(_folder, "y.npy"));
        NpyFile.Write(x, TensorData.Create(values, 256, 2));
        NpyFile.Write(y, TensorData.Create(Enumerable.Range(0, 256).Select(i => values[2 * i] > 0 ? 1L : 0L).ToArray()));
        Ok(await RunAsync("create", "net", "--mlp", "2,16,2", "--seed", "0"));

        var result = await RunAsync("train", "net", "-x", x, "-y", y, "--test-inputs", x, "--test-targets", y, "--optimizer", "Adam", "--lr", "0.01", "--epochs", "20", "--batch-size", "32", "--json");
        var trained = Json(result);
        Assert.InRange(trained.GetProperty("accuracy").GetDouble(), 0.95, 1);
        Assert.Equal(20 * 256, trained.GetProperty("samples").GetInt64());
        Assert.Matches(@"epoch 20/20  mean loss 0\.\d+ ", result.Error); // the progress is beside the document

        // The second time the module's own optimizer goes on.
        Assert.Contains("epoch 1/1", Ok(await RunAsync("train", "net", "-x", x, "-y", y)), StringComparison.Ordinal);
        Assert.Equal("default", Json(await RunAsync("ls", "--json"))[0].GetProperty("optimizers")[0].GetString());
    }

    [Fact]
    public async Task To_converts_and_state_goes_out_and_in()
    {
        Ok(await RunAsync("create", "a", "--mlp", "4,2", "--seed", "0"));
        Ok(await RunAsync("create", "b", "--mlp", "4,2", "--seed", "1"));
        var file = Path.Combine(_folder, "a.safetensors");

        Assert.Contains("2 tensors, 40 B", Ok(await RunAsync("state", "get", "a", "-o", file)), StringComparison.Ordinal);
        Assert.Equal(["0.weight", "0.bias"], SafetensorsFile.Read(file).Select(pair => pair.Key));
        Assert.Contains("2 tensors loaded into b", Ok(await RunAsync("state", "load", "b", "-i", file)), StringComparison.Ordinal);
        Assert.Equal(Ok(await RunAsync("forward", "a", "[[1, 2, 3, 4.5]]")), Ok(await RunAsync("forward", "b", "[[1, 2, 3, 4.5]]")));
        Assert.Equal("0.weight", Json(await RunAsync("state", "ls", "b", "--json")).GetProperty("entries")[0].GetProperty("key").GetString());

        Assert.Contains("a is half: 20 B on cpu", Ok(await RunAsync("to", "a", "half")), StringComparison.Ordinal);
        Assert.Equal(40, Json(await RunAsync("to", "a", "float", "--json")).GetProperty("bytes").GetInt64());

        Ok(await RunAsync("create", "c", "--mlp", "4,3"));
        var mismatch = await RunAsync("state", "load", "c", "-i", file);
        Assert.Equal(ExitCode.Refused, mismatch.Code);
        Assert.Contains("0.weight", mismatch.Error, StringComparison.Ordinal);

        Ok(await RunAsync("create", "d", "--mlp", "4,2,1"));
        var lenient = Json(await RunAsync("state", "load", "d", "--path", "2", "-i", file, "--no-strict", "--json"));
        Assert.Equal((0, 2), (lenient.GetProperty("tensors").GetInt32(), lenient.GetProperty("unexpected_keys").GetArrayLength()));
    }

    [Fact]
    public async Task State_goes_in_under_other_keys_and_out_in_part_and_cast()
    {
        Ok(await RunAsync("create", "a", "--mlp", "4,2", "--seed", "0"));
        Ok(await RunAsync("create", "c", "--mlp", "4,2", "--seed", "1"));
        var file = Path.Combine(_folder, "a.safetensors");

        Assert.Contains("1 tensors, 4 B", Ok(await RunAsync("state", "save", "a", "--prefix", "0.", "--keys", "*bias", "--dtype", "half", "-o", file)), StringComparison.Ordinal);
        Assert.Equal(DataType.Float16, Assert.Single(SafetensorsFile.Read(file)).Value.DType);
        Assert.Contains("1 tensors loaded into c", Ok(await RunAsync("state", "load", "c", "-i", file, "--strip-prefix", "0.", "--prefix", "0.", "--keys", "0.bias", "--assign")), StringComparison.Ordinal);
        Assert.Equal("float16", Json(await RunAsync("state", "ls", "c", "--json")).GetProperty("entries")[1].GetProperty("dtype").GetString());
    }

    [Fact]
    public async Task State_goes_out_and_in_through_files_of_the_server()
    {
        Ok(await RunAsync("create", "a", "--mlp", "4,2", "--seed", "0"));
        Ok(await RunAsync("create", "b", "--mlp", "4,2", "--seed", "1"));

        Assert.Contains("written to a.pt on the server", Ok(await RunAsync("state", "save", "a", "--server-file", "a.pt")), StringComparison.Ordinal);
        Assert.Equal(ExitCode.Refused, (await RunAsync("state", "save", "a", "--server-file", "a.pt")).Code);
        Ok(await RunAsync("state", "save", "a", "--server-file", "a.pt", "--overwrite"));
        Assert.Matches(@"a\.pt +.* +pytorch", Ok(await RunAsync("state", "files")));
        Assert.Contains("2 tensors loaded into b", Ok(await RunAsync("state", "load", "b", "--server-file", "a.pt")), StringComparison.Ordinal);
        Assert.Equal(Ok(await RunAsync("forward", "a", "[[1, 2, 3, 4.5]]")), Ok(await RunAsync("forward", "b", "[[1, 2, 3, 4.5]]")));
    }

    [Fact]
    public async Task Snapshots_are_saved_listed_restored_and_deleted()
    {
        Ok(await RunAsync("create", "mlp", "--mlp", "4,2", "--seed", "0"));
        var before = Ok(await RunAsync("forward", "mlp", "[[1, 2, 3, 4.5]]"));
        var id = Json(await RunAsync("snapshot", "save", "mlp", "--json")).GetProperty("id").GetString()!;
        Assert.Contains($"saved mlp as snap-", Ok(await RunAsync("snapshot", "save", "mlp", "--keep-last", "2")), StringComparison.Ordinal);
        Assert.Matches($@"{id} +mlp +.* +0 +request", Ok(await RunAsync("snapshot", "ls", "mlp")));
        var listed = Json(await RunAsync("snapshot", "ls", "--json"));
        Assert.Equal(2, listed.GetProperty("snapshots").GetArrayLength());

        // The module was created by a call with an id.
        Assert.Equal(["module.json", "requests.json", "weights.safetensors", "training.safetensors"], listed.GetProperty("snapshots")[0].GetProperty("files").EnumerateArray().Select(file => file.GetProperty("name").GetString()));

        Ok(await RunAsync("apply", "mlp", "zeros_"));
        Assert.Contains($"restored mlp from {id}: step 0", Ok(await RunAsync("snapshot", "restore", "mlp", "--snapshot", id)), StringComparison.Ordinal);
        Assert.Equal(before, Ok(await RunAsync("forward", "mlp", "[[1, 2, 3, 4.5]]")));
        Ok(await RunAsync("snapshot", "restore", "twin", "-s", id));
        Assert.Equal(before, Ok(await RunAsync("forward", "twin", "[[1, 2, 3, 4.5]]")));

        Assert.Equal($"deleted {id}\n", Ok(await RunAsync("snapshot", "delete", id)));
        Assert.Equal(ExitCode.Refused, (await RunAsync("snapshot", "delete", id)).Code);
        Assert.Contains("no snapshot", (await RunAsync("snapshot", "restore", "nobody")).Error, StringComparison.Ordinal);
        Assert.Equal("mlp: snapshots every 10 steps and when the server stops; the newest 5 stay\n", Ok(await RunAsync("snapshot", "policy", "mlp", "--every-steps", "10", "--on-drain", "--keep-last", "5")));
        Assert.Equal(10, Json(await RunAsync("snapshot", "ls", "mlp", "--json")).GetProperty("policy").GetProperty("every_steps").GetInt32());
        Assert.Equal("mlp: snapshots on request only; the newest 3 stay\n", Ok(await RunAsync("snapshot", "policy", "mlp")));
        Ok(await RunAsync("delete", "mlp"));
        Assert.Contains("No snapshots", (await RunAsync("snapshot", "ls", "mlp")).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task State_ls_norm_of_a_complex_tensor_counts_both_parts()
    {
        await using var client = new SconceClient(_server.Addresses[0]);
        var net = await client.CreateModuleAsync("net", Nn.Sequential(), cancellationToken: TestContext.Current.CancellationToken);
        await net.RegisterBufferAsync("c64", TensorData.Create(new[] { new Complex64(3, 4), new Complex64(0, 12) }), cancellationToken: TestContext.Current.CancellationToken);
        await net.RegisterBufferAsync("c128", TensorData.Create(new[] { new System.Numerics.Complex(0, -2) }), cancellationToken: TestContext.Current.CancellationToken);

        Assert.Equal([13.0, 2.0], Json(await RunAsync("state", "ls", "net", "--json")).GetProperty("entries").EnumerateArray().Select(entry => entry.GetProperty("norm").GetDouble()));
    }

    [Fact]
    public async Task Version_tells_the_servers_too()
        => Assert.Equal("1.0", Json(await RunAsync("version", "--json")).GetProperty("server").GetProperty("contract").GetString());

    private static string Ok(CliResult result)
    {
        Assert.True(result.Code == ExitCode.Ok, $"exit code {result.Code}: {result.Error}");
        return result.Output;
    }

    private static JsonElement Json(CliResult result) => JsonDocument.Parse(Ok(result)).RootElement;

    private Task<CliResult> RunAsync(params string[] args) => Cli.RunAsync([.. args, "--address", _server.Addresses[0]]);
}
