using Sconce.Engine.Storage;
using Sconce.Engine.Tests.Snapshots;
using Sconce.Engine.Weights;

namespace Sconce.Engine.Tests.Storage;

/// <summary>Files that appear whole or not at all: whatever fails, and when.</summary>
public sealed class WholeFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sconce-whole-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Failure_of_any_operation_leaves_nothing_or_what_was_there(bool overwrite)
    {
        for (var at = 0; ; at++)
        {
            var disk = Disk(overwrite ? [1, 2, 3] : null);
            var (first, step) = (disk.Operations.Count, at);
            disk.Inject = (index, operation) => index == first + step && !operation.StartsWith("delete", StringComparison.Ordinal) ? Fault.Fail : null;
            var failed = Record.Exception(() => new OperatorDirectory("/d", disk).Write("w", "file", overwrite, Content));
            if (failed is null)
            {
                Assert.True(at > 4);
                Assert.Equal([7, 7], disk.Files("/d").Single().Bytes);
                return;
            }

            Assert.Equal("FILE_UNWRITABLE", Assert.IsType<EngineException>(failed).Reason);
            var left = disk.Files("/d").ToList();
            if (overwrite)
            {
                // All but the last one failed before it was replaced.
                var now = Assert.Single(left);
                Assert.Equal("/d/w", now.Path);
                Assert.Equal(disk.Operations[^1].StartsWith("flushdir", StringComparison.Ordinal) ? [7, 7] : new byte[] { 1, 2, 3 }, now.Bytes);
            }
            else
            {
                Assert.Empty(left);
            }
        }
    }

    [Fact]
    public void Power_cut_at_any_operation_leaves_a_whole_file_or_none()
    {
        for (var at = 0; ; at++)
        {
            var disk = Disk(null);
            var (first, step) = (disk.Operations.Count, at);
            disk.Inject = (index, _) => index == first + step ? Fault.PowerCut : null;
            var failed = Record.Exception(() => new OperatorDirectory("/d", disk).Write("w", "file", overwrite: false, Content));
            foreach (var after in disk.AfterPowerCut(new Random(at), 64))
            {
                var files = after.Files("/d").Where(file => file.Path == "/d/w").Select(file => file.Bytes).ToList();
                Assert.All(files, bytes => Assert.Equal([7, 7], bytes));
                Assert.True(failed is not null || files.Count == 1);
            }

            if (failed is null)
            {
                return;
            }
        }
    }

    [Fact]
    public void Full_disk_says_so()
    {
        var disk = Disk(null);
        (disk.ErrorNumber, disk.Inject) = (28, (_, operation) => operation.StartsWith("write", StringComparison.Ordinal) ? Fault.WriteHalf : null);

        var error = Assert.Throws<EngineException>(() => new OperatorDirectory("/d", disk).Write("w", "file", overwrite: false, Content));

        Assert.Equal((EngineError.ResourceExhausted, "DISK_FULL"), (error.Error, error.Reason));
        Assert.Empty(disk.Files("/d"));
    }

    [Fact]
    public void Of_many_writers_of_one_name_one_has_it()
    {
        const int Writers = 4;
        for (var round = 0; round < 50; round++)
        {
            var name = $"w{round}";
            var ready = new Barrier(Writers);
            var won = 0;
            var threads = Enumerable.Range(0, Writers).Select(_ => new Thread(() =>
            {
                var failed = Record.Exception(() => new OperatorDirectory(_folder, SystemDisk.Instance).Write(name, "file", overwrite: false, stream =>
                {
                    Content(stream);
                    ready.SignalAndWait();
                }));
                if (failed is null)
                {
                    Interlocked.Increment(ref won);
                }
                else if (failed is not EngineException { Error: EngineError.AlreadyExists })
                {
                    Interlocked.Add(ref won, 100);
                }
            })).ToList();
            threads.ForEach(thread => thread.Start());
            threads.ForEach(thread => thread.Join());
            Assert.Equal(1, won);
        }

        Assert.Equal(50, Directory.GetFiles(_folder, "*", new EnumerationOptions { AttributesToSkip = 0 }).Length);
    }

    [Fact]
    public void Link_without_an_end_is_a_name_that_is_taken()
    {
        File.CreateSymbolicLink(Path.Combine(_folder, "w"), "nowhere");

        var error = Assert.Throws<EngineException>(() => new OperatorDirectory(_folder, SystemDisk.Instance).Write("w", "file", overwrite: false, Content));

        Assert.Equal(EngineError.AlreadyExists, error.Error);
        Assert.Equal("nowhere", new FileInfo(Path.Combine(_folder, "w")).LinkTarget);
        Assert.Single(Directory.GetFiles(_folder, "*", new EnumerationOptions { AttributesToSkip = 0 }));
    }

    [Fact]
    public void What_a_killed_process_left_is_deleted_and_nothing_else()
    {
        var left = Path.Combine(_folder, $".sconce-{Guid.NewGuid():n}.tmp");
        var others = new[] { ".sconce-mine.tmp", ".tmp", "w", $".sconce-{Guid.NewGuid():n}.tmp.bak" }.Select(name => Path.Combine(_folder, name)).ToList();
        others.Append(left).ToList().ForEach(path => File.WriteAllBytes(path, [1]));

        WholeFile.Write(SystemDisk.Instance, Path.Combine(_folder, "x"), WholeFileOptions.None, stream =>
        {
            // One that is being written stays.
            Assert.Equal(1, WholeFile.DeleteUnfinished(SystemDisk.Instance, _folder));
            Content(stream);
        });

        Assert.False(File.Exists(left));
        Assert.All(others.Append(Path.Combine(_folder, "x")), path => Assert.True(File.Exists(path)));
        Assert.Equal(5, Directory.GetFiles(_folder, "*", new EnumerationOptions { AttributesToSkip = 0 }).Length);
    }

    private static void Content(Stream stream) => stream.Write([7, 7]);

    private static FaultDisk Disk(byte[]? there)
    {
        var disk = new FaultDisk();
        disk.CreateDirectory("/d");
        disk.FlushDirectory("/");
        if (there is not null)
        {
            WholeFile.Write(disk, "/d/w", WholeFileOptions.Durable, stream => stream.Write(there));
        }

        return disk;
    }
}
