using Sconce.Engine.Execution;

namespace Sconce.Engine.Snapshots;

/// <summary>Which of the calls that an image was taken with go into the snapshot.</summary>
internal static class AnsweredCalls
{
    /// <summary>
    /// Waits until every call has its answer, and gives those that are remembered. The step that made a snapshot due is answered after its turn, so after the image was taken; its
    /// id must be there with the effect, or a repeat after a restart would take the step again.
    /// </summary>
    /// <param name="image">The image.</param>
    /// <param name="cancellationToken">Waits no longer.</param>
    /// <exception cref="EngineException">UNAVAILABLE: a call changed the module and its caller was told, since the host stops, that it did not: no snapshot can hold the one without the other.</exception>
    public static IReadOnlyList<OnceCall> Of(ModuleImage image, CancellationToken cancellationToken)
    {
        foreach (var call in image.Calls)
        {
            if (!call.Ended.IsCompleted)
            {
                call.Ended.Wait(cancellationToken);
            }

            if (call.IsDone && !call.IsRemembered)
            {
                throw Admission.Stopped();
            }
        }

        return [.. image.Calls.Where(call => call.IsRemembered)];
    }
}
