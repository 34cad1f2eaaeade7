using Sconce.Engine.Training;
using static TorchSharp.torch;

namespace Sconce.Engine.Tests.Training;

[CollectionDefinition(nameof(ProcessGenerator), DisableParallelization = true)]
public sealed class ProcessGenerator;

/// <summary>Not beside other tests, which draw from the process's generator without asking for it.</summary>
[Collection(nameof(ProcessGenerator))]
public sealed class RandomStreamTests
{
    // The first three numbers of torch.rand(3) after torch.manual_seed(7), by PyTorch 1.13.
    private static readonly float[] SeedSeven = [0.53492254f, 0.198803186f, 0.659211695f];

    [Fact]
    public void Run_after_a_seed_draws_what_PyTorch_draws()
    {
        using var stream = new RandomStream();
        stream.Seed(7);
        Assert.Equal(SeedSeven, stream.Run<float[]>(Draw));
    }

    [Fact]
    public void Run_goes_on_where_it_stopped_whatever_others_draw()
    {
        using var alone = new RandomStream();
        alone.Seed(11);
        var expected = Six(() => alone.Run<float[]>(Draw));
        using var stream = new RandomStream();
        using var other = new RandomStream();
        using var shared = new RandomStream();
        stream.Seed(11);
        other.Seed(12);
        var drawn = Six(() =>
        {
            var numbers = stream.Run<float[]>(Draw);
            _ = other.Run<float[]>(Draw);
            _ = shared.Run<float[]>(Draw);
            return numbers;
        });
        Assert.Equal(expected, drawn);
        Assert.False(shared.IsOwn);

        static float[] Six(Func<float[]> draw) => [.. Enumerable.Range(0, 6).SelectMany(_ => draw())];
    }

    [Fact]
    public async Task Run_on_many_threads_gives_each_stream_its_own_numbers()
    {
        var expected = Sequence(5);
        var results = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() => Sequence(5)))).WaitAsync(TimeSpan.FromSeconds(60));
        Assert.All(results, result => Assert.Equal(expected, result));

        static float[] Sequence(long seed)
        {
            using var stream = new RandomStream();
            stream.Seed(seed);
            return [.. Enumerable.Range(0, 200).SelectMany(_ => stream.Run<float[]>(Draw))];
        }
    }

    [Fact]
    public void Run_when_the_work_throws_gives_the_generator_back()
    {
        using var shared = new RandomStream();
        using var stream = new RandomStream();
        stream.Seed(3);
        RandomStream.SeedProcess(7);
        _ = Assert.Throws<InvalidOperationException>(() => stream.Run(() => Draw().Length > 0 ? throw new InvalidOperationException("stop") : 0));
        Assert.Equal(SeedSeven, shared.Run<float[]>(Draw));
    }

    [Fact]
    public void Seed_of_a_negative_number_is_that_of_its_bits()
    {
        using var stream = new RandomStream();
        stream.Seed(-1);
        Assert.Equal([0.993799388f, 0.571306348f, 0.570008039f], stream.Run<float[]>(Draw));
    }

    private static float[] Draw()
    {
        using var scope = NewDisposeScope();
        return rand(3).data<float>().ToArray();
    }
}
