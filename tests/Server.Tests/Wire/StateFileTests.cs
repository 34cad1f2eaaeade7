using System.IO.Hashing;
using Grpc.Core;

namespace Sconce.Server.Tests.Wire;

/// <summary>Weights in and out of the operator's directories: what callers may name there, and what becomes of it.</summary>
public sealed class StateFileTests : SweepTest
{
    [Fact]
    public async Task A_file_that_was_saved_is_listed_and_loads_into_another_module()
    {
        await Make.ModuleAsync(Server, "n", Make.Linear(1, 1));
        await Server.Modules.ApplyAsync(new() { Module = "m", Function = "constant_", Args = Make.Args(("val", 3)) });

        var saved = await Server.State.SaveStateFileAsync(new() { Module = "m", File = "three.safetensors" });

        var bytes = await File.ReadAllBytesAsync(At("three.safetensors"), TestContext.Current.CancellationToken);
        Assert.Equal(("three.safetensors", (ulong)bytes.Length, XxHash3.HashToUInt64(bytes), 2U, V1.StateFileFormat.Safetensors), (saved.File, saved.Bytes, saved.Xxh3, saved.Tensors, saved.Format));
        Assert.Equal(["m.safetensors", "three.safetensors"], System.IO.Directory.GetFiles(Directory).Select(Path.GetFileName).Order());
        var listed = (await Server.State.ListModelFilesAsync(new() { Prefix = "three" })).Files;
        Assert.Equal(("three.safetensors", saved.Bytes, V1.StateFileFormat.Safetensors), (Assert.Single(listed).Name, listed[0].Bytes, listed[0].Format));

        var loaded = await LoadAsync("n", new() { Name = "three.safetensors" });
        Assert.Equal((2U, 8UL, V1.StateFileFormat.Safetensors, 2UL), (loaded.LoadedTensors, loaded.Bytes, loaded.Format, loaded.Generation));
        Assert.Equal(6f, Make.Floats((await Server.Execution.ForwardAsync(Make.Forward("n", Make.Floats([1, 1], 1)))).Output.Tensor)[0]);
    }

    [Fact]
    public async Task A_part_of_a_file_under_other_keys_and_assigned()
    {
        await Make.ModuleAsync(Server, "two", Make.Sequential(Make.Linear(1, 1), Make.Linear(1, 1)));
        await Server.State.SaveStateFileAsync(new() { Module = "two", File = "two.safetensors", Dtype = V1.DataType.Float64, Prefix = "1.", Keys = { "*" } });

        var loaded = await LoadAsync("m", new() { Name = "two.safetensors", StripPrefix = "1.", Keys = { "bias" }, Assign = true });

        Assert.Equal((1U, 8UL), (loaded.LoadedTensors, loaded.Bytes));
        Assert.Equal(V1.DataType.Float64, (await Server.Modules.GetParameterAsync(new() { Module = "m", Name = "bias" })).Info.Dtype);
        Assert.Equal(V1.DataType.Float32, (await Server.Modules.GetParameterAsync(new() { Module = "m", Name = "weight" })).Info.Dtype);
    }

    [Fact]
    public async Task A_PyTorch_file_goes_out_and_in()
    {
        await Make.ModuleAsync(Server, "n", Make.Linear(1, 1));
        await Server.Modules.ApplyAsync(new() { Module = "m", Function = "constant_", Args = Make.Args(("val", 3)) });

        var saved = await Server.State.SaveStateFileAsync(new() { Module = "m", File = "three.pt" });

        Assert.Equal((V1.StateFileFormat.TorchZip, XxHash3.HashToUInt64(await File.ReadAllBytesAsync(At("three.pt"), TestContext.Current.CancellationToken))), (saved.Format, saved.Xxh3));
        Assert.Equal(V1.StateFileFormat.TorchZip, Assert.Single((await Server.State.ListModelFilesAsync(new() { Prefix = "three" })).Files).Format);
        var loaded = await LoadAsync("n", new() { Name = "three.pt" });
        Assert.Equal((2U, V1.StateFileFormat.TorchZip), (loaded.LoadedTensors, loaded.Format));
        Assert.Equal(6f, Make.Floats((await Server.Execution.ForwardAsync(Make.Forward("n", Make.Floats([1, 1], 1)))).Output.Tensor)[0]);
        var refused = (await Refused.OfAsync(LoadAsync("n", new() { Name = "three.pt", RootKey = "state_dict" }))).Is(StatusCode.InvalidArgument);
        Assert.Contains("\"state_dict\"", refused.Message, StringComparison.Ordinal);

        await File.WriteAllBytesAsync(At("old.pt"), [0x80, 2, (byte)'.'], TestContext.Current.CancellationToken);
        Assert.NotEqual("FILE_FORMAT", (await Refused.OfAsync(LoadAsync("n", new() { Name = "old.pt" }))).Reason);
    }

    [Theory]
    [InlineData("")]
    [InlineData("/etc/passwd")]
    [InlineData("../secret.safetensors")]
    [InlineData("sub/../../secret.safetensors")]
    [InlineData("./m.safetensors")]
    [InlineData("sub//m.safetensors")]
    [InlineData(".hidden")]
    [InlineData("a\\b")]
    [InlineData("a\nb")]
    [InlineData("a\0b")]
    public async Task A_name_that_is_not_relative_and_plain_is_refused_both_ways(string name)
    {
        Assert.Equal("BAD_FILE_NAME", (await Refused.OfAsync(LoadAsync("m", new() { Name = name }))).Is(StatusCode.InvalidArgument, "file.name").Reason);
        Assert.Equal("BAD_FILE_NAME", (await Refused.OfAsync(SaveAsync(name, overwrite: true))).Is(StatusCode.InvalidArgument, "file").Reason);
    }

    [Fact]
    public async Task A_link_that_leads_out_a_directory_and_a_pipe_are_refused_and_a_link_inside_is_not()
    {
        var outside = System.IO.Directory.CreateTempSubdirectory("sconce-outside-").FullName;
        try
        {
            File.Copy(At("m.safetensors"), Path.Combine(outside, "s.safetensors"));
            File.CreateSymbolicLink(At("out.safetensors"), Path.Combine(outside, "s.safetensors"));
            System.IO.Directory.CreateSymbolicLink(At("folder"), outside);
            System.IO.Directory.CreateDirectory(At("sub"));
            File.CreateSymbolicLink(At("sub/in.safetensors"), "../m.safetensors");
            using (var pipe = System.Diagnostics.Process.Start("mkfifo", [At("pipe")]))
            {
                await pipe.WaitForExitAsync(TestContext.Current.CancellationToken);
            }

            foreach (var name in (string[])["out.safetensors", "folder/s.safetensors", "sub", "pipe"])
            {
                var refused = (await Refused.OfAsync(LoadAsync("m", new() { Name = name }))).Is(StatusCode.FailedPrecondition, resource: "file");
                Assert.Equal("FILE_REFUSED", refused.Reason);
                Assert.DoesNotContain(outside, refused.Message, StringComparison.Ordinal);
            }

            Assert.Equal(2U, (await LoadAsync("m", new() { Name = "sub/in.safetensors" })).LoadedTensors);
            Assert.Equal("m.safetensors", Assert.Single((await Server.State.ListModelFilesAsync(new())).Files).Name);

            // What stands under the name is replaced, wherever it leads.
            await SaveAsync("out.safetensors", overwrite: true);
            Assert.Null(new FileInfo(At("out.safetensors")).LinkTarget);
        }
        finally
        {
            System.IO.Directory.Delete(outside, recursive: true);
        }
    }

    [Fact]
    public async Task A_file_is_not_overwritten_unless_that_is_asked_for()
    {
        var before = await File.ReadAllBytesAsync(At("m.safetensors"), TestContext.Current.CancellationToken);
        await Server.Modules.ApplyAsync(new() { Module = "m", Function = "zeros_" });

        (await Refused.OfAsync(SaveAsync("m.safetensors"))).Is(StatusCode.AlreadyExists, resource: "file");

        Assert.Equal(before, await File.ReadAllBytesAsync(At("m.safetensors"), TestContext.Current.CancellationToken));
        await SaveAsync("m.safetensors", overwrite: true);
        Assert.NotEqual(before, await File.ReadAllBytesAsync(At("m.safetensors"), TestContext.Current.CancellationToken));
        (await Refused.OfAsync(SaveAsync("sub/m.safetensors"))).Is(StatusCode.InvalidArgument, "file");
        Assert.Single(System.IO.Directory.GetFiles(Directory));
    }

    [Fact]
    public async Task What_the_format_cannot_hold_leaves_no_file()
    {
        await Server.Modules.RegisterBufferAsync(new() { Module = "m", Name = "c", Tensor = new() { Dtype = V1.DataType.Complex128, Shape = { 1 }, Data = Google.Protobuf.ByteString.CopyFrom(new byte[16]) } });

        (await Refused.OfAsync(SaveAsync("c.safetensors"))).Is(StatusCode.Unimplemented);

        Assert.Single(System.IO.Directory.GetFiles(Directory));
    }

    [Fact]
    public async Task A_file_that_does_not_fit_or_is_no_file_of_weights_changes_nothing()
    {
        await Make.ModuleAsync(Server, "other", Make.Linear(2, 1));
        var refused = (await Refused.OfAsync(LoadAsync("other", new() { Name = "m.safetensors" }))).Is(StatusCode.InvalidArgument, "file.name");
        Assert.Contains("\"weight\" has shape [1, 1]; the module's is [1, 2]", refused.Message, StringComparison.Ordinal);
        (await Refused.OfAsync(LoadAsync("m", new() { Name = "none.safetensors" }))).Is(StatusCode.NotFound, resource: "file");
        (await Refused.OfAsync(LoadAsync("m", new() { Name = "m.safetensors", RootKey = "state_dict" }))).Is(StatusCode.InvalidArgument, "file.root_key");
        (await Refused.OfAsync(LoadAsync("m", null))).Is(StatusCode.InvalidArgument, "file");

        await File.WriteAllTextAsync(At("notes.txt"), "no weights at all", TestContext.Current.CancellationToken);
        (await Refused.OfAsync(LoadAsync("m", new() { Name = "notes.txt" }))).Is(StatusCode.InvalidArgument, "file.name");
        await File.WriteAllBytesAsync(At("cut.safetensors"), (await File.ReadAllBytesAsync(At("m.safetensors"), TestContext.Current.CancellationToken))[..^1], TestContext.Current.CancellationToken);
        (await Refused.OfAsync(LoadAsync("m", new() { Name = "cut.safetensors" }))).Is(StatusCode.InvalidArgument);

        Assert.Equal((1UL, 1UL), ((await Server.Modules.GetModuleAsync(new() { Module = "m" })).Module.Generation, (await Server.Modules.GetModuleAsync(new() { Module = "other" })).Module.Generation));
    }

    [Fact]
    public async Task Hooks_at_the_state_dict_see_files_both_ways()
    {
        await Server.Hooks.RegisterHookAsync(new() { Module = "m", Hook = new() { Id = "out", Site = V1.HookSite.StateDict, Actions = { new V1.HookAction { Rename = new() { Prefix = "w", Replacement = "saved.w" } } } } });
        await Server.Hooks.RegisterHookAsync(new() { Module = "m", Hook = new() { Id = "in", Site = V1.HookSite.LoadStateDictPre, Actions = { new V1.HookAction { Rename = new() { Prefix = "saved.", Replacement = "" } } } } });

        await Server.State.SaveStateFileAsync(new() { Module = "m", File = "hooked.safetensors" });
        Assert.Equal(2U, (await LoadAsync("m", new() { Name = "hooked.safetensors" })).LoadedTensors);

        await Server.Hooks.RemoveHookAsync(new() { Module = "m", Hook = "in" });
        Assert.Contains("\"saved.weight\" is unexpected", (await Refused.OfAsync(LoadAsync("m", new() { Name = "hooked.safetensors" }))).Is(StatusCode.InvalidArgument, "file.name").Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_file_larger_than_the_memory_left_is_refused_before_it_is_read()
    {
        await using var server = await RunningServer.StartAsync(options => (options.Engine.ModelsDir, options.Engine.MemoryBudgetBytes) = (Directory, 64 << 20));
        await Make.ModuleAsync(server, "large", Make.Linear(3000, 3000, bias: false));
        var header = """{"weight":{"dtype":"F32","shape":[3000,3000],"data_offsets":[0,36000000]}}"""u8.ToArray();
        using (var file = File.Create(At("large.safetensors")))
        {
            file.Write(BitConverter.GetBytes((long)header.Length));
            file.Write(header);
            file.SetLength(8 + header.Length + 36_000_000);
        }

        var refused = (await Refused.OfAsync(server.State.LoadStateFileAsync(new() { Module = "large", File = new() { Name = "large.safetensors" } }).ResponseAsync)).Is(StatusCode.ResourceExhausted);

        Assert.Contains("the tensors of file \"large.safetensors\" needs 36,000,000", refused.Message, StringComparison.Ordinal);
        Assert.Equal(36_000_000UL, (await server.Host.GetHostAsync(new())).Memory.UsedBytes);
    }

    [Fact]
    public async Task A_directory_that_is_gone_is_told_as_that()
    {
        var gone = System.IO.Directory.CreateTempSubdirectory("sconce-gone-").FullName;
        await using var server = await RunningServer.StartAsync(options => (options.Engine.ModelsDir, options.Engine.ExportDir) = (gone, gone));
        await Make.ModuleAsync(server, "m", Make.Linear(1, 1));
        System.IO.Directory.Delete(gone);

        var refused = (await Refused.OfAsync(server.State.ListModelFilesAsync(new()).ResponseAsync)).Is(StatusCode.FailedPrecondition);
        Assert.Equal("FILE_UNREADABLE", refused.Reason);
        Assert.DoesNotContain(gone, refused.Message, StringComparison.Ordinal);
        (await Refused.OfAsync(server.State.LoadStateFileAsync(new() { Module = "m", File = new() { Name = "a" } }).ResponseAsync)).Is(StatusCode.NotFound, resource: "file");
        Assert.Equal("FILE_UNWRITABLE", (await Refused.OfAsync(server.State.SaveStateFileAsync(new() { Module = "m", File = "a" }).ResponseAsync)).Is(StatusCode.FailedPrecondition).Reason);
        Assert.Empty(server.Errors);
    }

    [Fact]
    public async Task What_a_killed_server_left_in_export_dir_goes_when_the_next_one_starts()
    {
        var left = At($".sconce-{Guid.NewGuid():n}.tmp");
        await File.WriteAllBytesAsync(left, [1], TestContext.Current.CancellationToken);
        await using var server = await RunningServer.StartAsync(options => options.Engine.ExportDir = Directory);
        Assert.False(File.Exists(left));
        Assert.True(File.Exists(At("m.safetensors")));
    }

    [Fact]
    public async Task A_server_without_directories_says_which_settings_give_them()
    {
        await using var server = await RunningServer.StartAsync();
        await Make.ModuleAsync(server, "m", Make.Linear(1, 1));

        Assert.Equal("MODELS_DIR_OFF", (await Refused.OfAsync(server.State.ListModelFilesAsync(new()).ResponseAsync)).Is(StatusCode.FailedPrecondition).Reason);
        Assert.Contains("models_dir", (await Refused.OfAsync(server.State.LoadStateFileAsync(new() { Module = "m", File = new() { Name = "a" } }).ResponseAsync)).Is(StatusCode.FailedPrecondition).Message, StringComparison.Ordinal);
        Assert.Contains("export_dir", (await Refused.OfAsync(server.State.SaveStateFileAsync(new() { Module = "m", File = "a" }).ResponseAsync)).Is(StatusCode.FailedPrecondition).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_retry_of_a_save_gets_the_first_answer_though_the_name_is_taken_now()
    {
        var request = new V1.SaveStateFileRequest { Module = "m", File = "once.safetensors", RequestId = "save-1" };
        var first = await Server.State.SaveStateFileAsync(request);

        Assert.Equal(first, await Server.State.SaveStateFileAsync(request));
    }

    private string At(string name) => Path.Combine(Directory, name);

    private Task<V1.LoadStateFileResponse> LoadAsync(string module, V1.StateFile? file) => Server.State.LoadStateFileAsync(new() { Module = module, File = file }).ResponseAsync;

    private Task<V1.SaveStateFileResponse> SaveAsync(string file, bool overwrite = false) => Server.State.SaveStateFileAsync(new() { Module = "m", File = file, Overwrite = overwrite }).ResponseAsync;
}
