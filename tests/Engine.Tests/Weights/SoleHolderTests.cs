using Sconce.Engine.Execution;
using Sconce.Engine.Modules;
using Sconce.Engine.Tensors;
using static Sconce.Engine.Tests.Execution.Testing;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights;

/// <summary>Loads that take the memory of what was received, where nobody can tell, and copy it where somebody could.</summary>
public sealed class SoleHolderTests
{
    [Fact]
    public async Task An_upload_becomes_the_parameters_memory_and_everything_else_of_them_stays()
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Linear(2, 1));
        var parameter = module.State.Tree.Root.Parameters[0].Parameter;
        var idle = host.Ledger.UsedBytes;
        using var upload = Upload(host, [("weight", [1, 2], [3, 4]), ("bias", [1], [5])]);
        var received = upload.Use(entries => At(entries[0].Value));

        await module.LoadStateAsync(default, upload, true, default);
        upload.Dispose();

        Assert.Same(parameter, module.State.Tree.Root.Parameters[0].Parameter);
        Assert.Equal((received, true, true), (At(parameter), parameter.requires_grad, parameter.is_leaf));
        Assert.Equal(idle, host.Ledger.UsedBytes);
        Assert.Equal(3 + (2 * 4) + 5, Assert.Single(await module.Forward(Floats([1, 2], 1, 2))));
    }

    [Fact]
    public async Task What_has_become_one_modules_memory_is_given_to_no_other()
    {
        await using var host = Host();
        var (a, b) = (await host.Create("a", Linear(2, 1)), await host.Create("b", Linear(2, 1)));
        using var upload = Upload(host, [("weight", [1, 2], [3, 4]), ("bias", [1], [5])]);
        await a.LoadStateAsync(default, upload, true, default);
        await b.LoadStateAsync(default, upload, true, default).Fails(EngineError.Internal, nameof(ObjectDisposedException));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Parameters_that_share_memory_go_on_sharing_it(bool part)
    {
        await using var host = Host();
        var module = await host.CreateEval("m", Sequential(Linear(1, 2), Linear(part ? 1 : 2, part ? 1 : 2)));
        var (first, second) = (module.State.Tree.Find("0").Parameters[part ? 0 : 1].Parameter, module.State.Tree.Find("1").Parameters[part ? 0 : 1].Parameter);
        using (no_grad())
        {
            using var view = part ? first.detach().narrow(0, 1, 1) : first.detach();
            NativeSetData.SetData(second, view);
        }

        var address = At(first);
        using var upload = part
            ? Upload(host, [("0.weight", [2, 1], [1, 2]), ("0.bias", [2], [0, 0]), ("1.weight", [1, 1], [7]), ("1.bias", [1], [0])])
            : Upload(host, [("0.weight", [2, 1], [1, 2]), ("0.bias", [2], [3, 4]), ("1.weight", [2, 2], [0, 0, 0, 0]), ("1.bias", [2], [5, 6])]);
        await module.LoadStateAsync(default, upload, true, default);

        // As in PyTorch: what was loaded last is what both hold.
        Assert.Equal(address, At(first));
        Assert.Equal(part ? [1, 7] : [5, 6], first.data<float>().ToArray());
        Assert.Equal(part ? [7] : [5, 6], second.data<float>().ToArray());
    }

    [Fact]
    public async Task What_has_other_strides_or_another_dtype_is_not_taken_as_it_came()
    {
        await using var host = Host();
        var module = await host.Create("m", Of("Conv2d", ("in_channels", 2.0), ("out_channels", 1.0), ("kernel_size", 2.0), ("bias", false)));
        await module.ConvertAsync(default, new ConversionPlan(ConversionKind.To, Format: MemoryFormat.ChannelsLast), default);
        var weight = module.State.Tree.Root.Parameters[0].Parameter;
        using var upload = Upload(host, [("weight", [1, 2, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8])]);
        await module.LoadStateAsync(default, upload, true, default);
        Assert.Equal(MemoryFormat.ChannelsLast, MemoryFormats.Of(weight));
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], weight.detach().contiguous().data<float>().ToArray());
    }

    private static unsafe nint At(Tensor tensor) => (nint)NativeTensors.Address(tensor);

    private static StateUpload Upload(EngineHost host, (string Key, long[] Shape, float[] Values)[] entries)
    {
        var upload = host.ReserveState([.. entries.Select(entry => new StateEntryInfo(entry.Key, ElementType.Float32, entry.Shape))], "e");
        for (var i = 0; i < entries.Length; i++)
        {
            upload.Write(i, 0, Payload(entries[i].Shape, entries[i].Values).Data.Span);
        }

        return upload;
    }
}
