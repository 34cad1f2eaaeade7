using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Sconce.Engine.Catalog;
using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Snapshots;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Execution;
using Sconce.Engine.Tests.Hardening;
using Sconce.Engine.Weights.Script;

namespace Sconce.Engine.Tests.Weights.Script;

/// <summary>Modules of the operator's files, in a host: which files may be used, when they are tried, what they are charged for, and that there are no snapshots of them.</summary>
public sealed class ScriptTypesTests : IDisposable
{
    private static readonly object[] Shape = [2.0, 4.0];
    private static readonly object Example = new object[] { Shape };

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("sconce-scripts-");
    private readonly DirectoryInfo _data = Directory.CreateTempSubdirectory("sconce-scripts-data-");
    private int _trials;

    public void Dispose()
    {
        _directory.Delete(recursive: true);
        _data.Delete(recursive: true);
    }

    [Fact]
    public async Task Without_the_directory_there_is_no_such_type()
    {
        await using var host = Host(options => options.ScriptDir = "");
        Assert.DoesNotContain(host.Types, type => type.Name == ScriptTypes.TypeName);
        await Refused(host, "a.pt", "TORCHSCRIPT_OFF");
        var module = await host.Create("m", Testing.Mlp());
        Assert.Equal("TORCHSCRIPT_OFF", (await Assert.ThrowsAsync<EngineException>(() => module.AddModuleAsync(default, "more", Spec("a.pt"), null, default, default))).Reason);
    }

    [Fact]
    public void Callers_write_nothing_into_the_directory()
    {
        var options = new EngineOptions { ScriptDir = _directory.FullName, ExportDir = _directory.FullName, Data = _directory.CreateSubdirectory("data").FullName };
        Assert.Equal(2, options.Validate().Count(error => error.Contains("ScriptDir", StringComparison.Ordinal)));
        Assert.Contains("ScriptOperators", Assert.Single(new EngineOptions { ScriptOperators = "torch.empty" }.Validate()), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Only_files_are_taken_whose_content_the_operator_lists()
    {
        await using var host = Host();
        Put("a.pt", "scripted.pt");
        Assert.Contains("sha256sum *.pt > SHA256SUMS", await Refused(host, "a.pt", "SCRIPT_NOT_VOUCHED"), StringComparison.Ordinal);
        List(("b.pt", "traced.pt"));
        await Refused(host, "a.pt", "FILE_NOT_FOUND");
        Assert.Contains("it is not there", await Refused(host, "b.pt", "FILE_NOT_FOUND"), StringComparison.Ordinal);
        List(("a.pt", "traced.pt"));
        var message = await Refused(host, "a.pt", "SCRIPT_NOT_VOUCHED");
        Assert.Contains(Digest("scripted.pt"), message, StringComparison.Ordinal);
        Assert.Contains(Digest("traced.pt"), message, StringComparison.Ordinal);
        List(("a.pt", "traced.pt"), ("a.pt", "scripted.pt"));
        await Refused(host, "a.pt", "SCRIPT_NOT_VOUCHED");
        File.WriteAllText(Sums, "this is no list\n");
        await Refused(host, "a.pt", "SCRIPT_NOT_VOUCHED");
        File.WriteAllBytes(Sums, new byte[(1 << 20) + 1]);
        await Refused(host, "a.pt", "SCRIPT_NOT_VOUCHED");
        await Refused(host, "../a.pt", "BAD_FILE_NAME");
        Assert.Equal(0, _trials);
    }

    [Fact]
    public async Task What_is_no_file_in_the_directory_is_left_alone()
    {
        await using var host = Host();
        List(("link.pt", "scripted.pt"), ("pipe.pt", "scripted.pt"), ("folder.pt", "scripted.pt"), ("sub/inner.pt", "ReadsFile.pt"));
        File.CreateSymbolicLink(Path.Combine(_directory.FullName, "link.pt"), ScriptFiles.PathOf("scripted.pt"));
        using (var made = Process.Start("mkfifo", [Path.Combine(_directory.FullName, "pipe.pt")]))
        {
            await made.WaitForExitAsync(TestContext.Current.CancellationToken);
        }

        _directory.CreateSubdirectory("folder.pt");
        Assert.All(["link.pt", "pipe.pt", "folder.pt"], name => Refused(host, name, "FILE_REFUSED").GetAwaiter().GetResult());

        // As sha256sum writes it of ./sub/inner.pt, of bytes.
        _directory.CreateSubdirectory("sub");
        Put("sub/inner.pt", "ReadsFile.pt");
        File.WriteAllText(Sums, $"# mine\n\n{Digest("ReadsFile.pt").ToUpperInvariant()} *./sub/inner.pt\r\n");
        await Refused(host, "sub/inner.pt", "SCRIPT_OPERATOR_REFUSED");
    }

    [Fact]
    public async Task A_file_is_tried_once_for_each_example_and_what_was_vouched_for_stays()
    {
        Seccomp.Require();
        await using var host = Host();
        Put("a.pt", "scripted.pt");
        List(("a.pt", "scripted.pt"));
        await host.Create("first", Spec("a.pt"));
        await host.Create("second", Spec("a.pt"));
        Assert.Equal(1, _trials);
        await host.Create("third", Spec("a.pt", new object[] { new object[] { 5.0, 4.0 } }));
        Assert.Equal(2, _trials);

        // Another file in its place: what the list names is in memory, and nothing else is read.
        Put("a.pt", "Endless.pt");
        await host.Create("fourth", Spec("a.pt"));
        Assert.Equal(2, _trials);
        List(("a.pt", "Raises.pt"));
        await Refused(host, "a.pt", "SCRIPT_NOT_VOUCHED");
        Put("a.pt", "Raises.pt");
        Assert.Contains("seven dimensions are wanted", await Refused(host, "a.pt", "SCRIPT_TRIAL_FAILED"), StringComparison.Ordinal);
        Assert.Equal(3, _trials);

        // A copy is made of what its module was made of.
        await host.CopyModuleAsync("first", "", "copy", null, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task What_is_kept_is_charged_and_goes_with_the_last_module()
    {
        Seccomp.Require();
        await using var host = Host();
        Put("a.pt", "scripted.pt");
        Put("b.pt", "traced.pt");
        List(("a.pt", "scripted.pt"), ("b.pt", "traced.pt"));
        var module = await host.Create("a", Spec("a.pt"));
        var (weights, file) = (module.Summary.Bytes, ScriptFiles.Rewritten(ScriptFiles.Bytes("scripted.pt")).Length);
        Assert.Equal(weights + file, host.Ledger.Used(MemoryUse.Modules));
        await host.DeleteModuleAsync("a", null, TestContext.Current.CancellationToken);
        Assert.Equal(file, host.Ledger.Used(MemoryUse.Modules));

        // The next takes the place of those that nobody uses.
        var other = await host.Create("b", Spec("b.pt", new object[] { new object[] { 1.0, 1.0, 6.0, 6.0 } }));
        Assert.Equal(other.Summary.Bytes + ScriptFiles.Rewritten(ScriptFiles.Bytes("traced.pt")).Length, host.Ledger.Used(MemoryUse.Modules));
    }

    [Fact]
    public async Task A_file_that_does_not_fit_is_refused_before_it_is_read()
    {
        await using var host = Host(options => options.MemoryBudgetBytes = 10_000);
        Put("a.pt", "scripted.pt");
        List(("a.pt", "scripted.pt"));
        await host.Create("m", Spec("a.pt")).Fails(EngineError.ResourceExhausted, "memory_budget_bytes");
        Assert.Equal((0, 0), (_trials, host.Ledger.UsedBytes));
    }

    [Theory]
    [InlineData(null, "has the shapes of 0 inputs; expected 1 to 3 for forward(x: Tensor, shift: Optional[Tensor], times: int)")]
    [InlineData(4, "has the shapes of 4 inputs")]
    public async Task An_example_of_forwards_inputs_is_needed(int? given, string message)
    {
        await using var host = Host();
        Put("a.pt", "scripted.pt");
        List(("a.pt", "scripted.pt"));
        var spec = Spec("a.pt", given is { } count ? Enumerable.Repeat((object)Shape, count).ToArray() : null);
        Assert.Contains(message, (await Assert.ThrowsAsync<EngineException>(() => host.Create("m", spec))).Message, StringComparison.Ordinal);
        Assert.Equal(0, _trials);
    }

    [Fact]
    public async Task An_example_that_no_tensor_has_is_refused()
    {
        await using var host = Host();
        await host.Create("m", Spec("a.pt", new object[] { new object[] { -1.0 } })).Fails(EngineError.InvalidArgument, "below 0");
        await host.Create("m", Spec("a.pt", new object[] { Enumerable.Repeat((object)1.0, 65).ToArray() })).Fails(EngineError.InvalidArgument, "more than 64 dimensions");
        await host.Create("m", Testing.Of("TorchScript", ("file", "a.pt"), ("example", Example), ("example_dtypes", new object[] { "zzz" }))).Fails(EngineError.InvalidArgument, "zzz");
        await host.Create("m", Testing.Of("TorchScript", ("file", "a.pt"), ("example", Example), ("example_dtypes", Array.Empty<object>()))).Fails(EngineError.InvalidArgument, "example_dtypes");
    }

    [Fact]
    public async Task Numbers_and_optional_inputs_are_tried_too()
    {
        Seccomp.Require();
        await using var host = Host();
        Put("a.pt", "scripted.pt");
        List(("a.pt", "scripted.pt"));
        await host.Create("m", Spec("a.pt", new object[] { Shape, new object[] { 1.0 }, Array.Empty<object>() }));
    }

    [Fact]
    public async Task It_trains_through_conversions_and_a_graph_across_calls()
    {
        Seccomp.Require();
        await using var host = Host();
        Put("a.pt", "traced.pt");
        List(("a.pt", "traced.pt"));
        var module = await host.Create("m", Spec("a.pt", new object[] { new object[] { 2.0, 1.0, 6.0, 6.0 } }));
        await module.CreateOptimizerAsync("", "Adam", new Dictionary<string, object?> { ["lr"] = 0.05 }, [], null, default);
        var x = Testing.Floats([2, 1, 6, 6], [.. Enumerable.Range(0, 72).Select(i => (i % 7) / 7F)]);
        var step = new TrainStepCall
        {
            Inputs = new CallInputs([x]),
            Loss = new("CrossEntropyLoss", new Dictionary<string, object?>()),
            Targets = [TensorInput.Of(new TensorPayload(ElementType.Int64, [2], MemoryMarshal.AsBytes<long>([0, 1]).ToArray()))],
        };
        var losses = new List<double>();
        for (var i = 0; i < 30; i++)
        {
            using var taken = await module.TrainStepAsync(step, default).WaitAsync(Testing.Limit);
            losses.Add(taken.Loss);
        }

        Assert.True(losses[^1] < losses[0] * 0.9, $"{losses[0]} to {losses[^1]}");
        await module.ConvertAsync(default, new ConversionPlan(ConversionKind.Double), default);
        await module.ConvertAsync(default, new ConversionPlan(ConversionKind.Float), default);
        (await module.TrainStepAsync(step, default)).Dispose();
        using var forward = await module.ForwardAsync(Testing.Record(x), default);
        using var backward = await module.BackwardAsync(new BackwardCall { Graph = forward.Graph!.Id, OutputGrads = [Testing.Filled(1, 2, 2)] }, default);
        Assert.True(host.Ledger.Used(MemoryUse.Gradients) > 0);
    }

    [Fact]
    public async Task Trials_are_bounded_and_end_with_their_callers()
    {
        await using var host = Host(options => options.ScriptTrialCommand = _ => new ProcessStartInfo("sleep", ["1000"]));
        Put("a.pt", "scripted.pt");
        List(("a.pt", "scripted.pt"));
        using var gone = new CancellationTokenSource();
        var waiting = Enumerable.Range(0, 16).Select(i => host.CreateModuleAsync($"m{i}", Spec("a.pt"), null, ElementType.Float32, gone.Token)).ToList();
        var error = await Assert.ThrowsAsync<EngineException>(() => host.Create("late", Spec("a.pt")));
        Assert.Equal(("SCRIPT_TRIALS_BUSY", EngineError.ResourceExhausted), (error.Reason, error.Error));
        Assert.NotNull(error.RetryAfter);
        await gone.CancelAsync();
        foreach (var call in waiting)
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        }

        Assert.Empty(host.ListModules(""));
    }

    [Fact]
    public async Task There_are_no_snapshots_and_a_drain_saves_the_others()
    {
        Seccomp.Require();
        var data = _data.FullName;
        await using (var host = Host(options => options.Data = data))
        {
            Put("a.pt", "scripted.pt");
            List(("a.pt", "scripted.pt"));
            var script = await host.Create("script", Spec("a.pt"));
            Assert.Equal("SCRIPT_NOT_DURABLE", (await Assert.ThrowsAsync<EngineException>(() => host.Durable.SaveAsync("script", null, null, default))).Reason);
            Assert.Equal("SCRIPT_NOT_DURABLE", (await Assert.ThrowsAsync<EngineException>(() => script.SetSnapshotPolicyAsync(new SnapshotPolicy(OnDrain: true), null, default))).Reason);
            var holder = await host.Create("holder", Testing.Mlp());
            await holder.SetSnapshotPolicyAsync(new SnapshotPolicy(OnDrain: true), null, default);
            await holder.AddModuleAsync(default, "more", Spec("a.pt"), null, default, default);
            var plain = await host.Create("plain", Testing.Mlp());
            await plain.SetSnapshotPolicyAsync(new SnapshotPolicy(OnDrain: true), null, default);
            await host.DrainAsync(TimeSpan.FromMinutes(2), TestContext.Current.CancellationToken);
            Assert.Equal(["plain"], host.Durable.List("").Select(snapshot => snapshot.Module));
        }

        await using var again = Host(options => options.Data = data);
        await again.Durable.RestoreAllAsync(default);
        Assert.Equal(["plain"], again.ListModules("").Select(module => module.Name));
    }

    private string Sums => Path.Combine(_directory.FullName, ScriptVouchers.FileName);

    private static string Digest(string fixture) => Convert.ToHexStringLower(SHA256.HashData(ScriptFiles.Bytes(fixture)));

    private static ModuleSpec Spec(string file) => Spec(file, Example);

    private static ModuleSpec Spec(string file, object? example) => example is null ? Testing.Of("TorchScript", ("file", file)) : Testing.Of("TorchScript", ("file", file), ("example", example));

    private static async Task<string> Refused(EngineHost host, string file, string reason)
    {
        var error = await Assert.ThrowsAsync<EngineException>(() => host.Create("refused", Spec(file)));
        Assert.Equal(reason, error.Reason);
        return error.Message;
    }

    private void Put(string name, string fixture) => File.Copy(ScriptFiles.PathOf(fixture), Path.Combine(_directory.FullName, name), overwrite: true);

    private void List(params (string Name, string Fixture)[] files) => File.WriteAllLines(Sums, files.Select(file => $"{Digest(file.Fixture)}  {file.Name}"));

    private EngineHost Host(Action<EngineOptions>? configure = null) => Testing.Host(options =>
    {
        options.ScriptDir = _directory.FullName;
        options.ScriptTrialMemoryBytes = 1L << 30;
        options.ScriptTrialTimeout = TimeSpan.FromMinutes(3);
        options.ScriptTrialCommand = arguments =>
        {
            Interlocked.Increment(ref _trials);
            return new ProcessStartInfo("dotnet", [Path.Combine(TorchChild.Folder, "Sconce.TorchChild.dll"), .. arguments]);
        };
        configure?.Invoke(options);
    });
}
