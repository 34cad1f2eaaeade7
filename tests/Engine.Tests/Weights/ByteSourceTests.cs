using Microsoft.Win32.SafeHandles;
using Sconce.Engine.Tensors;
using Sconce.Engine.Tests.Weights.Safetensors;
using Sconce.Engine.Tests.Weights.TorchZip;
using Sconce.Engine.Weights;
using Sconce.Engine.Weights.Safetensors;
using Sconce.Engine.Weights.TorchZip;

namespace Sconce.Engine.Tests.Weights;

/// <summary>Where the bytes of weights come from: both formats take all of it.</summary>
public sealed class ByteSourceTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-source-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("path")]
    [InlineData("handle")]
    [InlineData("owned")]
    [InlineData("stream")]
    [InlineData("memory")]
    public void Both_formats_are_read_from_every_source(string kind)
    {
        Read(SafetensorsBytes.Fixture("every-dtype.safetensors"), source => SafetensorsFile.Open(source, "x"));
        Read(TorchZipFixtures.PathOf("views.pt"), source => TorchZipFile.Open(source));

        void Read(string path, Func<ByteSource, IStateFile> open)
        {
            using var stream = File.OpenRead(path);
            SafeFileHandle handle = File.OpenHandle(path);
            using (var file = open(kind switch
            {
                "path" => ByteSource.Open(path),
                "handle" => ByteSource.Of(handle),
                "owned" => ByteSource.Owned(handle),
                "stream" => ByteSource.Of(stream),
                _ => ByteSource.Of(File.ReadAllBytes(path)),
            }))
            {
                for (var i = 0; i < file.Entries.Count; i++)
                {
                    using var tensor = file.Read(i);
                    Assert.Equal(file.Entries[i].Shape, tensor.shape);
                }
            }

            Assert.Equal(kind == "owned", handle.IsClosed);
            Assert.True(stream.CanRead);
            handle.Dispose();
        }
    }

    [Theory]
    [InlineData("/dev/zero")]
    [InlineData("/dev/null")]
    [InlineData("link to a device")]
    [InlineData("pipe")]
    [InlineData("folder")]
    public void What_is_no_file_is_refused_without_waiting(string what)
    {
        var path = what[0] == '/' ? what : Path.Combine(_folder, what);
        switch (what)
        {
            case "pipe":
                using (var made = System.Diagnostics.Process.Start("mkfifo", [path]))
                {
                    made.WaitForExit();
                }

                break;
            case "folder":
                Directory.CreateDirectory(path);
                break;
            case "link to a device":
                File.CreateSymbolicLink(path, "/dev/zero");
                break;
        }

        Refused(() => SafetensorsFile.Open(path, "x"));
        Refused(() => TorchZipFile.Open(path));

        void Refused(Func<IStateFile> open)
        {
            var error = Assert.Throws<EngineException>(open);
            Assert.Equal((EngineError.FailedPrecondition, "FILE_UNREADABLE", new ResourceRef("file", Path.GetFileName(path))), (error.Error, error.Reason, error.Resource));
            Assert.DoesNotContain(_folder, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Read_that_is_cancelled_stops_between_pieces()
    {
        var source = ZipScript.Of(PickleScript.State(new(Type: "DoubleStorage", Count: 1L << 37, Sizes: [1])), ("0", new byte[8])).Parts;
        source[1] = source[1] with { Zeros = (1L << 40) - 8 };
        using var bytes = new ZipScript { Parts = source }.Source();
        using var file = TorchZipFile.Open(bytes);
        using var cancellation = new CancellationTokenSource();
        cancellation.Cancel();

        // The checksum of a terabyte stands before the one element of it.
        Assert.Throws<OperationCanceledException>(() => file.Read(0, cancellation.Token));
        Assert.InRange(bytes.BytesRead, 0, 1 << 20);
    }

    [Fact]
    public unsafe void Wrong_bool_is_found_at_its_place_whatever_the_pieces()
    {
        var bytes = new byte[11];
        bytes[9] = 2;
        fixed (byte* memory = bytes)
        {
            Assert.Equal(9, TensorLayout.IndexOfNoBoolean(memory, bytes.Length, piece: 4));
            Assert.Equal(-1, TensorLayout.IndexOfNoBoolean(memory, 9, piece: 4));
        }
    }
}
