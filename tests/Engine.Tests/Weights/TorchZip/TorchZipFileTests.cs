using Sconce.Engine.Weights.TorchZip;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Weights.TorchZip;

/// <summary>Files of real PyTorch.</summary>
public sealed class TorchZipFileTests
{
    public static TheoryData<string, string> Readable => TorchZipFixtures.Readable();

    [Theory]
    [MemberData(nameof(Readable))]
    public void File_of_PyTorch_is_read_bit_for_bit(string name, string root)
    {
        using var file = TorchZipFile.Open(TorchZipFixtures.PathOf(name), root);
        TorchZipFixtures.Same(TorchZipFixtures.State(name, root), file);
    }

    [Fact]
    public void Tensors_with_one_storage_are_read_each_into_memory_of_its_own()
    {
        using var file = TorchZipFile.Open(TorchZipFixtures.PathOf("module.pth"));
        var keys = file.Entries.Select(entry => entry.Key).ToList();
        using var weight = file.Read(keys.IndexOf("embedding.weight"));
        using var tied = file.Read(keys.IndexOf("head.weight"));
        Assert.True(weight.equal(tied).all().item<bool>());
        _ = weight.zero_();
        Assert.NotEqual(0, tied.abs().sum().item<float>());
    }

    [Fact]
    public void Storage_of_several_views_is_summed_once()
    {
        var source = new MemorySource(TorchZipFixtures.Bytes("views.pt"));
        using var file = TorchZipFile.Open(source);
        var row = file.Entries.Select(entry => entry.Key).ToList().IndexOf("row");
        var opened = source.BytesRead;
        using var first = file.Read(row);
        Assert.Equal(240 + 80, source.BytesRead - opened);
        using var again = file.Read(row);
        Assert.Equal(240 + 80 + 80, source.BytesRead - opened);
    }

    [Fact]
    public void Read_within_a_dispose_scope_leaves_nothing_but_the_tensor()
    {
        using var file = TorchZipFile.Open(TorchZipFixtures.PathOf("views.pt"));
        for (var i = 0; i < file.Entries.Count; i++)
        {
            using var scope = NewDisposeScope();
            using var tensor = file.Read(i);
            Assert.Equal(1, scope.DisposablesCount);
        }
    }

    [Theory]
    [InlineData("legacy.pt", EngineError.Unimplemented, "LEGACY_TORCH_FILE", "legacy format")]
    [InlineData("old.tar", EngineError.Unimplemented, "TAR_FILE", "tar file")]
    [InlineData("protocol4.pt", EngineError.Unimplemented, "PICKLE_PROTOCOL", "protocol 4")]
    [InlineData("golden.pkl", EngineError.Unimplemented, "PLAIN_PICKLE", "plain pickle")]
    [InlineData("script.pt", EngineError.Unimplemented, "TORCHSCRIPT_ARCHIVE", "TorchScript archive")]
    [InlineData("whole_module.pt", EngineError.InvalidArgument, "PICKLE_REFUSED", "at byte 2: global \"torch.nn.modules.linear.Linear\"")]
    [InlineData("quantized.pt", EngineError.InvalidArgument, "PICKLE_REFUSED", "global \"torch._utils._rebuild_qtensor\"")]
    [InlineData("sparse.pt", EngineError.InvalidArgument, "PICKLE_REFUSED", "global \"torch._utils._rebuild_sparse_tensor\"")]
    [InlineData("tensor.pt", EngineError.InvalidArgument, "STATE_DICT_NOT_FOUND", "the root of the PyTorch file is a tensor")]
    public void Form_that_is_not_read_is_refused_by_name(string name, EngineError code, string reason, string words)
    {
        var error = TorchZipFixtures.Refused(TorchZipFixtures.Bytes(name));
        Assert.Equal((code, reason), (error.Error, error.Reason));
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Checkpoint_without_a_root_tells_what_is_in_it_and_how_to_choose()
    {
        var error = TorchZipFixtures.Refused(TorchZipFixtures.Bytes("checkpoint.pt"));
        Assert.Equal((EngineError.InvalidArgument, "STATE_DICT_NOT_FOUND"), (error.Error, error.Reason));
        foreach (var words in new[] { "\"epoch\" is an int", "\"loss\" is a float", "\"best\" is None", "\"shape\" is a tuple, …", "under \"model\" (", "\"extra.ema.model\" (1 tensors)", "choose one by root" })
        {
            Assert.Contains(words, error.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("modle", "holds nothing under \"modle\"")]
    [InlineData("extra.ema", "\"extra\" is a dict without \"ema\"")]
    [InlineData("epoch", "\"epoch\" of the PyTorch file is an int")]
    [InlineData("epoch.x", "holds nothing under \"epoch.x\": \"epoch\" is an int")]
    [InlineData("optimizer.state", "\"optimizer.state\" of the PyTorch file holds more than tensors under names: 0 is under no name")]
    [InlineData(".", "holds nothing under \".\"")]
    [InlineData("extra..", "holds nothing under")]
    public void Root_that_holds_no_state_dict_is_refused(string root, string words)
    {
        var error = TorchZipFixtures.Refused(TorchZipFixtures.Bytes("checkpoint.pt"), root);
        Assert.Equal("STATE_DICT_NOT_FOUND", error.Reason);
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
        Assert.Contains("under \"model\"", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void File_that_is_not_there_or_no_file_is_refused_without_its_folder()
    {
        var folder = Directory.CreateTempSubdirectory("sconce");
        try
        {
            var missing = Assert.Throws<EngineException>(() => TorchZipFile.Open(Path.Combine(folder.FullName, "w.pt")));
            Assert.Equal((EngineError.NotFound, new ResourceRef("file", "w.pt")), (missing.Error, missing.Resource));
            var directory = Assert.Throws<EngineException>(() => TorchZipFile.Open(folder.FullName));
            Assert.Equal((EngineError.FailedPrecondition, "FILE_UNREADABLE"), (directory.Error, directory.Reason));
            Assert.DoesNotContain(folder.Parent!.FullName + "/", missing.Message + directory.Message, StringComparison.Ordinal);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fact]
    public void File_that_is_cut_short_while_it_is_open_is_data_loss_and_names_the_tensor()
    {
        var source = new MemorySource(TorchZipFixtures.Bytes("dtypes.pt"));
        using var file = TorchZipFile.Open(source);
        source.Left = 1_300;
        var error = Assert.Throws<EngineException>(() => file.Read(0));
        Assert.Equal((EngineError.DataLoss, "FILE_CUT_SHORT"), (error.Error, error.Reason));
        Assert.Contains("\"torch.float64\"", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Content_that_was_changed_is_data_loss_and_names_record_and_tensor()
    {
        var bytes = TorchZipFixtures.Bytes("parameters.pt");
        var at = bytes.AsSpan().IndexOf(new byte[] { 0, 0, 0x40, 0x40 });
        bytes[at]++;
        using var file = TorchZipFile.Open(new MemorySource(bytes));
        var error = Assert.Throws<EngineException>(() => file.Read(0));
        Assert.Equal((EngineError.DataLoss, "CRC_MISMATCH"), (error.Error, error.Reason));
        Assert.Contains("\"weight\"", error.Message, StringComparison.Ordinal);
        Assert.Contains("\"parameters/data/0\"", error.Message, StringComparison.Ordinal);
        file.Read(1).Dispose();
    }
}
